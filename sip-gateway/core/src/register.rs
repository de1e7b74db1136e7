//! A trunk by registration (RFC 3261 §10): REGISTER with digest, refreshed in time, tried again with growing pauses.

use crate::api::{Now, TrunkDownReason};
use crate::core::{Core, Slot, TimerKey, TrunkTimer};
use crate::digest::{Digest, DigestError};
use crate::random::spread;
use crate::transaction::{ClientRequest, Owner, TxId};
use offhook_wire_sip::{Message, Method, Name};
use std::time::Duration;

/// The first pause after a failure; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The longest registration that a registrar may force on us with Min-Expires.
const LONGEST_TIME_S: u32 = 86_400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waiting to try, first or again.
    Idle,
    Asking(TxId),
    Registered,
    /// Registered, and asking again.
    Refreshing(TxId),
    /// Taking it back.
    Withdrawing(TxId),
    Off,
}

/// One trunk's registration.
#[derive(Debug)]
pub(crate) struct Registration {
    trunk: usize,
    asked_s: u32,
    call_id: String,
    tag: String,
    number: u32,
    digest: Digest,
    failures: u32,
    state: State,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Up,
    Down(TrunkDownReason),
}

impl Registration {
    pub fn start(core: &mut Core, now: Now, trunk: usize, time: Duration) -> Self {
        let registration = Self {
            trunk,
            asked_s: u32::try_from(time.as_secs()).unwrap_or(LONGEST_TIME_S),
            call_id: core.call_id(),
            tag: core.tag(),
            number: 0,
            digest: Digest::default(),
            failures: 0,
            state: State::Idle,
        };
        core.after(now, TimerKey::Trunk(trunk, TrunkTimer::Register), Duration::ZERO);
        registration
    }

    pub fn on_timer(&mut self, core: &mut Core, now: Now) {
        let tx = match self.state {
            State::Idle | State::Registered => self.send(core, now, self.asked_s),
            _ => return,
        };
        self.state = match (tx, self.state) {
            (Some(tx), State::Registered) => State::Refreshing(tx),
            (Some(tx), _) => State::Asking(tx),
            (None, state) => state,
        };
    }

    /// Takes the registration back (RFC 3261 §10.2.2).
    pub fn withdraw(&mut self, core: &mut Core, now: Now) {
        core.timers.cancel(&TimerKey::Trunk(self.trunk, TrunkTimer::Register));
        let registered = matches!(self.state, State::Registered | State::Refreshing(_));
        if let State::Asking(tx) | State::Refreshing(tx) = self.state {
            core.drop_client(tx);
        }
        self.state = match self.send(core, now, 0).filter(|_| registered) {
            Some(tx) => State::Withdrawing(tx),
            None => State::Off,
        };
    }

    pub fn on_response(&mut self, core: &mut Core, now: Now, tx: TxId, response: &Message<'_>) -> Change {
        let code = response.code().unwrap_or_default();
        let current = match self.state {
            State::Asking(current) | State::Refreshing(current) | State::Withdrawing(current) => current,
            _ => return Change::None,
        };
        if current != tx || code < 200 {
            return Change::None;
        }
        let slot = core.slot(self.trunk).cloned();
        let Some(slot) = slot else { return Change::None };
        match code {
            401 | 407 => self.on_challenge(core, now, &slot, response),
            _ if matches!(self.state, State::Withdrawing(_)) => {
                self.state = State::Off;
                Change::None
            }
            200..=299 => {
                if self.digest.is_pending() {
                    core.note_proved(self.trunk);
                }
                self.digest.accepted();
                self.failures = 0;
                let granted = granted_s(response, &slot).unwrap_or(self.asked_s).clamp(1, LONGEST_TIME_S);
                let pause = spread(core.random.as_mut(), Duration::from_secs(u64::from(granted)), 70, 90);
                core.after(now, TimerKey::Trunk(self.trunk, TrunkTimer::Register), pause);
                self.state = State::Registered;
                Change::Up
            }
            // RFC 3261 §10.2.8: asks for a longer time.
            423 => match response.min_expires().filter(|&min| min > self.asked_s && min <= LONGEST_TIME_S) {
                Some(min) => {
                    self.asked_s = min;
                    self.resend(core, now, min)
                }
                None => self.fail(core, now, TrunkDownReason::RegistrarRefused(code)),
            },
            _ => self.fail(core, now, TrunkDownReason::RegistrarRefused(code)),
        }
    }

    fn on_challenge(&mut self, core: &mut Core, now: Now, slot: &Slot, response: &Message<'_>) -> Change {
        let time = if matches!(self.state, State::Withdrawing(_)) { 0 } else { self.asked_s };
        match self.digest.challenged(response, slot.trunk.config().credentials.as_ref()) {
            Ok(()) => {
                core.stats.challenges_answered += 1;
                self.resend(core, now, time)
            }
            Err(error) => {
                core.stats.challenges_not_answered += 1;
                let code = response.code().unwrap_or_default();
                let reason = match error {
                    DigestError::Refused => TrunkDownReason::WrongPassword,
                    _ => TrunkDownReason::RegistrarRefused(code),
                };
                // A wrong password does not become right by asking often; carriers lock accounts.
                self.failures = self.failures.max(6);
                self.digest = Digest::default();
                self.fail(core, now, reason)
            }
        }
    }

    /// The same question with credentials or another time.
    fn resend(&mut self, core: &mut Core, now: Now, time_s: u32) -> Change {
        let Some(tx) = self.send(core, now, time_s) else {
            return self.fail(core, now, TrunkDownReason::RegistrarRefused(0));
        };
        self.state = match self.state {
            State::Refreshing(_) => State::Refreshing(tx),
            State::Withdrawing(_) => State::Withdrawing(tx),
            _ => State::Asking(tx),
        };
        Change::None
    }

    pub fn on_timeout(&mut self, core: &mut Core, now: Now, tx: TxId) -> Change {
        match self.state {
            State::Asking(current) | State::Refreshing(current) if current == tx => {
                self.fail(core, now, TrunkDownReason::RegistrarSilent)
            }
            State::Withdrawing(current) if current == tx => {
                self.state = State::Off;
                Change::None
            }
            _ => Change::None,
        }
    }

    fn fail(&mut self, core: &mut Core, now: Now, reason: TrunkDownReason) -> Change {
        if matches!(self.state, State::Withdrawing(_)) {
            self.state = State::Off;
            return Change::None;
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        // Many gateways of one carrier must not come back at the same moment.
        let pause = spread(core.random.as_mut(), doubled, 75, 125);
        core.after(now, TimerKey::Trunk(self.trunk, TrunkTimer::Register), pause);
        self.state = State::Idle;
        Change::Down(reason)
    }

    fn send(&mut self, core: &mut Core, now: Now, time_s: u32) -> Option<TxId> {
        let slot = core.slot(self.trunk).cloned()?;
        let config = slot.trunk.config();
        let uri = format!("sip:{}", config.domain);
        let user = slot.trunk.user()?;
        let own = format!("<{}>", slot.trunk.uri_of(user));
        self.number += 1;
        let branch = core.branch();
        let authorization = config
            .credentials
            .as_ref()
            .and_then(|who| self.digest.authorization(who, Method::Register.as_str(), &uri, core.random.as_mut()));
        let contact = format!("<sip:{}@{}>", slot.trunk.contact_user(), slot.socket.advertised);
        let mut builder = core
            .request_builder(&Method::Register, &uri, &slot.socket, &branch)
            .header(Name::From, format!("{own};tag={}", self.tag))
            .header(Name::To, own)
            .header(Name::CallId, &self.call_id)
            .header(Name::CSeq, format!("{} REGISTER", self.number))
            .header(Name::Contact, contact)
            .header(Name::Expires, time_s.to_string());
        if let Some((name, value)) = authorization {
            builder = builder.header(name, value);
        }
        let request = ClientRequest {
            owner: Owner::Registration(self.trunk),
            trunk: self.trunk,
            method: Method::Register,
            branch,
            to: config.proxy,
            local: slot.socket.local,
            bytes: builder.to_bytes().ok()?,
        };
        Some(core.send(now, request))
    }
}

/// The time granted: that of our own Contact, else of the whole response (RFC 3261 §10.2.4).
fn granted_s(response: &Message<'_>, slot: &Slot) -> Option<u32> {
    let own = response.contacts().iter().find(|contact| {
        let uri = contact.uri.sip();
        uri.is_some_and(|uri| {
            uri.host.ip() == Some(slot.socket.advertised.ip())
                && uri.port.unwrap_or(5060) == slot.socket.advertised.port()
        })
    });
    own.and_then(|contact| contact.params.text("expires")?.parse().ok()).or(response.expires())
}
