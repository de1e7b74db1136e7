//! Server side of INVITE (RFC 3261 §17.2.1 with RFC 6026 §7.1). The 2xx is repeated by the call, not here.

use super::{Effects, T1, T1_64, T2, T4, Timer};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerInvite {
    Proceeding,
    /// A 2xx was sent.
    Accepted,
    /// A refusal was sent; `pause` until it is sent again.
    Completed {
        pause: Duration,
    },
    /// Its ACK came.
    Confirmed,
    Terminated,
}

impl ServerInvite {
    /// Whether a final response may still be given.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Proceeding)
    }

    /// The same INVITE came again.
    pub fn on_repeat(&mut self, fx: &mut Effects) {
        fx.send = matches!(self, Self::Proceeding | Self::Completed { .. });
    }

    /// We answer with `code`; false if no answer is possible any more.
    pub fn respond(&mut self, code: u16, fx: &mut Effects) -> bool {
        match (*self, code) {
            (Self::Proceeding, 100..=199) => {}
            (Self::Proceeding, 200..=299) => {
                fx.arm(Timer::L, T1_64);
                *self = Self::Accepted;
            }
            // RFC 6026 §7.1: repetitions of the 2xx pass through.
            (Self::Accepted, 200..=299) => {}
            (Self::Proceeding, _) => {
                fx.arm(Timer::G, T1);
                fx.arm(Timer::H, T1_64);
                *self = Self::Completed { pause: T1 };
            }
            _ => return false,
        }
        fx.send = true;
        true
    }

    pub fn on_ack(&mut self, fx: &mut Effects) {
        match *self {
            Self::Completed { .. } => {
                fx.disarm(&[Timer::G, Timer::H]);
                fx.arm(Timer::I, T4);
                *self = Self::Confirmed;
            }
            // RFC 6026 §7.1: an ACK in this state belongs to the call.
            Self::Accepted => fx.deliver = true,
            _ => {}
        }
    }

    pub fn on_timer(&mut self, timer: Timer, fx: &mut Effects) {
        match (*self, timer) {
            (Self::Completed { pause }, Timer::G) => {
                let pause = (pause * 2).min(T2);
                fx.send = true;
                fx.arm(Timer::G, pause);
                *self = Self::Completed { pause };
            }
            (Self::Completed { .. }, Timer::H) => {
                fx.disarm(&[Timer::G]);
                fx.timed_out = true;
                fx.done = true;
                *self = Self::Terminated;
            }
            (Self::Confirmed, Timer::I) | (Self::Accepted, Timer::L) => {
                fx.done = true;
                *self = Self::Terminated;
            }
            _ => {}
        }
    }
}
