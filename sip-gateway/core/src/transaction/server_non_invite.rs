//! Server side of every other request (RFC 3261 §17.2.2).

use super::{Effects, T1_64, Timer};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerNonInvite {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

impl ServerNonInvite {
    pub fn on_repeat(&mut self, fx: &mut Effects) {
        fx.send = matches!(self, Self::Proceeding | Self::Completed);
    }

    pub fn respond(&mut self, code: u16, fx: &mut Effects) -> bool {
        match (*self, code) {
            (Self::Trying | Self::Proceeding, 100..=199) => *self = Self::Proceeding,
            (Self::Trying | Self::Proceeding, _) => {
                fx.arm(Timer::J, T1_64);
                *self = Self::Completed;
            }
            _ => return false,
        }
        fx.send = true;
        true
    }

    pub fn on_timer(&mut self, timer: Timer, fx: &mut Effects) {
        if (*self, timer) == (Self::Completed, Timer::J) {
            fx.done = true;
            *self = Self::Terminated;
        }
    }
}
