//! Subjects: where a message goes. Clusters, nodes, tenants and requests are words that cannot contain a separator.
use offhook_contract::envelope::BUS_VERSION;
use offhook_contract::{DaemonKind, NodeId, TenantId};

/// The word that stands for "any node of this kind" in a request's subject.
const ANY: &str = "any";
/// The word that stands for "no tenant" in an event's subject.
const NO_TENANT: &str = "-";

/// To whom a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Node(NodeId),
    /// One node of the kind, whichever is free: only for requests that any of them can answer.
    Any,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a cluster's name is 1 to 32 characters of a-z, 0-9, '-' and '_', not {0:?}")]
pub struct InvalidCluster(pub String);

/// Makes the subjects of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Subjects {
    prefix: String,
    bucket_prefix: String,
}

impl Subjects {
    pub(crate) fn new(cluster: &str) -> Result<Self, InvalidCluster> {
        let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if !(1..=32).contains(&cluster.len()) || !cluster.bytes().all(fine) {
            return Err(InvalidCluster(cluster.chars().take(80).collect()));
        }
        Ok(Self { prefix: format!("offhook.{cluster}.{BUS_VERSION}"), bucket_prefix: format!("offhook_{cluster}") })
    }

    pub(crate) fn request(&self, kind: DaemonKind, to: &Target, name: &str) -> String {
        let node = match to {
            Target::Node(node) => node.as_str(),
            Target::Any => ANY,
        };
        format!("{}.{kind}.{node}.{name}", self.prefix)
    }

    /// The pattern a server listens on.
    pub(crate) fn requests(&self, kind: DaemonKind, target: &Target) -> String {
        self.request(kind, target, "*")
    }

    pub(crate) fn event(&self, tenant: Option<&TenantId>, kind: &str) -> String {
        format!("{}.event.{}.{kind}", self.prefix, tenant.map_or(NO_TENANT, TenantId::as_str))
    }

    /// The pattern a subscriber listens on; `None` means every tenant, every kind.
    pub(crate) fn events(&self, tenant: Option<&TenantId>, kind: Option<&str>) -> String {
        format!("{}.event.{}.{}", self.prefix, tenant.map_or("*", TenantId::as_str), kind.unwrap_or("*"))
    }

    /// A key-value bucket's name.
    pub(crate) fn bucket(&self, bucket: crate::transport::Bucket) -> String {
        format!("{}_{}", self.bucket_prefix, bucket.word())
    }
}

/// A node or tenant whose name is one of our reserved words would receive what is not meant for it.
pub(crate) fn is_reserved(text: &str) -> bool {
    text == ANY || text == NO_TENANT
}

/// The last word of a request's subject.
pub(crate) fn request_name(subject: &str) -> &str {
    subject.rsplit('.').next().unwrap_or_default()
}

/// NATS rules: `*` is one word, a final `>` is one or more.
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let mut words = subject.split('.');
    for part in pattern.split('.') {
        match (part, words.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (exact, Some(word)) if exact == word => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_word_and_a_greater_than_is_the_rest() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.*.c", "a.b.c", true),
            ("a.b.c", "a.b", false),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} against {subject}");
        }
    }

    #[test]
    fn a_cluster_name_cannot_break_out_of_its_subjects() {
        for bad in ["", "a.b", "*", ">", "A", "x y", &"x".repeat(33)] {
            assert!(Subjects::new(bad).is_err(), "{bad:?} was accepted");
        }
        let subjects = Subjects::new("main").unwrap();
        let node = Target::Node(NodeId::parse("sfu-1").unwrap());
        assert_eq!(subjects.request(DaemonKind::Sfu, &node, "open_room"), "offhook.main.v1.sfu.sfu-1.open_room");
        assert_eq!(subjects.event(None, "clock"), "offhook.main.v1.event.-.clock");
    }
}
