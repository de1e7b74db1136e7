//! Identifiers. Text everywhere (bus, database, logs); made by call-control as UUIDv7 unless said otherwise.
use serde::{Deserialize, Serialize};
use std::fmt;

/// An id that cannot be used in a subject, a path or a log line without escaping is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to 64 characters of a-z, A-Z, 0-9, '-' and '_', not {0:?}")]
pub struct InvalidId(pub String);

fn check(text: &str) -> Result<(), InvalidId> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if (1..=64).contains(&text.len()) && text.bytes().all(fine) {
        Ok(())
    } else {
        Err(InvalidId(text.chars().take(80).collect()))
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                check(&text)?;
                Ok(Self(text))
            }
            /// From a UUID that the caller made (randomness and time stay outside).
            pub fn from_uuid(uuid: uuid::Uuid) -> Self {
                Self(uuid.as_hyphenated().to_string())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }
        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(/** An organisation. */ TenantId);
id!(/** One conversation from dial to hang-up. */ CallId);
id!(/** One party's connection to a call. */ LegId);
id!(/** The place on an SFU where the legs of a call hear each other; its text is the call's id. */ RoomId);
id!(/** A recording; has one or more segments. */ RecordingId);
id!(/** A running daemon's name, chosen by the operator or made from host name and kind. */ NodeId);
id!(/** One life of a node: made anew at each start. */ BootId);
id!(/** A message on the bus; commands are idempotent by it. */ MessageId);
id!(/** A trunk's name in the configuration. */ TrunkName);

impl From<&CallId> for RoomId {
    fn from(call: &CallId) -> Self {
        Self(call.0.clone())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DaemonKind {
    Sfu,
    Turn,
    Sip,
    Recorder,
    Control,
}

impl DaemonKind {
    pub const ALL: [Self; 5] = [Self::Sfu, Self::Turn, Self::Sip, Self::Recorder, Self::Control];
    /// The word used in subjects, configuration and binary names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sfu => "sfu",
            Self::Turn => "turn",
            Self::Sip => "sip",
            Self::Recorder => "recorder",
            Self::Control => "control",
        }
    }
}

impl fmt::Display for DaemonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_could_leave_its_subject_or_path_is_refused() {
        for bad in ["", "a.b", "a/b", "../x", "a b", "a*", "a>", "é", &"x".repeat(65)] {
            assert!(CallId::parse(bad).is_err(), "{bad:?} was accepted");
            assert!(serde_json::from_value::<CallId>(serde_json::json!(bad)).is_err());
        }
        assert!(CallId::parse("0198c1f2-aaaa-7bbb-8ccc-0123456789ab").is_ok());
    }
}
