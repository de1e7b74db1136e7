//! Client side of INVITE (RFC 3261 §17.1.1 with RFC 6026 §7.2).

use super::{Effects, T1, T1_64, TIMER_D, Timer};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientInvite {
    /// Nothing heard; `pause` until the request is sent again.
    Calling {
        pause: Duration,
    },
    Proceeding,
    /// A 2xx came; more may, from forks.
    Accepted,
    /// Refused and acknowledged.
    Completed,
    Terminated,
}

impl ClientInvite {
    pub fn start(fx: &mut Effects) -> Self {
        fx.send = true;
        fx.arm(Timer::A, T1);
        fx.arm(Timer::B, T1_64);
        Self::Calling { pause: T1 }
    }

    pub fn on_response(&mut self, code: u16, fx: &mut Effects) {
        match (*self, code) {
            (Self::Calling { .. } | Self::Proceeding, 100..=199) => {
                fx.disarm(&[Timer::A, Timer::B]);
                fx.deliver = true;
                *self = Self::Proceeding;
            }
            (Self::Calling { .. } | Self::Proceeding, 200..=299) => {
                fx.disarm(&[Timer::A, Timer::B]);
                fx.arm(Timer::M, T1_64);
                fx.deliver = true;
                *self = Self::Accepted;
            }
            (Self::Calling { .. } | Self::Proceeding, _) => {
                fx.disarm(&[Timer::A, Timer::B]);
                fx.arm(Timer::D, TIMER_D);
                fx.ack = true;
                fx.deliver = true;
                *self = Self::Completed;
            }
            (Self::Accepted, 200..=299) => fx.deliver = true,
            (Self::Completed, 300..) => fx.ack = true,
            _ => {}
        }
    }

    pub fn on_timer(&mut self, timer: Timer, fx: &mut Effects) {
        match (*self, timer) {
            (Self::Calling { pause }, Timer::A) => {
                let pause = pause * 2;
                fx.send = true;
                fx.arm(Timer::A, pause);
                *self = Self::Calling { pause };
            }
            (Self::Calling { .. }, Timer::B) => {
                fx.disarm(&[Timer::A]);
                fx.timed_out = true;
                fx.done = true;
                *self = Self::Terminated;
            }
            (Self::Accepted, Timer::M) | (Self::Completed, Timer::D) => {
                fx.done = true;
                *self = Self::Terminated;
            }
            _ => {}
        }
    }
}
