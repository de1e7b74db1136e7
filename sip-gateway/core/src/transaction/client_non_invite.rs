//! Client side of every other request (RFC 3261 §17.1.2).

use super::{Effects, T1, T1_64, T2, T4, Timer};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientNonInvite {
    Trying { pause: Duration },
    Proceeding,
    Completed,
    Terminated,
}

impl ClientNonInvite {
    pub fn start(fx: &mut Effects) -> Self {
        fx.send = true;
        fx.arm(Timer::E, T1);
        fx.arm(Timer::F, T1_64);
        Self::Trying { pause: T1 }
    }

    pub fn on_response(&mut self, code: u16, fx: &mut Effects) {
        match (*self, code) {
            (Self::Trying { .. } | Self::Proceeding, 100..=199) => {
                // §17.1.2.2: from now on every T2.
                fx.arm(Timer::E, T2);
                fx.deliver = true;
                *self = Self::Proceeding;
            }
            (Self::Trying { .. } | Self::Proceeding, _) => {
                fx.disarm(&[Timer::E, Timer::F]);
                fx.arm(Timer::K, T4);
                fx.deliver = true;
                *self = Self::Completed;
            }
            _ => {}
        }
    }

    pub fn on_timer(&mut self, timer: Timer, fx: &mut Effects) {
        match (*self, timer) {
            (Self::Trying { pause }, Timer::E) => {
                let pause = (pause * 2).min(T2);
                fx.send = true;
                fx.arm(Timer::E, pause);
                *self = Self::Trying { pause };
            }
            (Self::Proceeding, Timer::E) => {
                fx.send = true;
                fx.arm(Timer::E, T2);
            }
            (Self::Trying { .. } | Self::Proceeding, Timer::F) => {
                fx.disarm(&[Timer::E]);
                fx.timed_out = true;
                fx.done = true;
                *self = Self::Terminated;
            }
            (Self::Completed, Timer::K) => {
                fx.done = true;
                *self = Self::Terminated;
            }
            _ => {}
        }
    }
}
