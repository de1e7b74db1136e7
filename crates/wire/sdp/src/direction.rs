//! The four directions of a media line (RFC 8866 §6.7).

/// Direction as seen by the side that wrote the description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Direction {
    #[default]
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    /// The attribute's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// Reads an attribute's name; `None` for anything that is not a direction.
    pub fn from_attribute(name: &str) -> Option<Self> {
        Some(match name {
            "sendrecv" => Self::SendRecv,
            "sendonly" => Self::SendOnly,
            "recvonly" => Self::RecvOnly,
            "inactive" => Self::Inactive,
            _ => return None,
        })
    }

    pub const fn new(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The same flow seen from the other end.
    pub const fn reversed(self) -> Self {
        Self::new(self.receives(), self.sends())
    }

    /// What may stand in an answer to an offer with direction `self`, if we would like `wanted` (RFC 3264 §6.1).
    pub const fn answered_with(self, wanted: Self) -> Self {
        Self::new(self.receives() && wanted.sends(), self.sends() && wanted.receives())
    }
}

#[cfg(test)]
mod tests {
    use super::Direction::{self, *};

    #[test]
    fn an_answer_never_claims_what_the_offer_does_not_allow() {
        assert_eq!(SendRecv.answered_with(SendRecv), SendRecv);
        assert_eq!(SendOnly.answered_with(SendRecv), RecvOnly);
        assert_eq!(RecvOnly.answered_with(SendRecv), SendOnly);
        assert_eq!(Inactive.answered_with(SendRecv), Inactive);
        assert_eq!(SendOnly.answered_with(SendOnly), Inactive);
        for d in [SendRecv, SendOnly, RecvOnly, Inactive] {
            assert_eq!(d.reversed().reversed(), d);
            assert_eq!(Direction::from_attribute(d.as_str()), Some(d));
        }
    }
}
