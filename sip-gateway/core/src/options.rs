//! OPTIONS as a sign of life (RFC 3261 §11): a trunk is down after three misses, and up again after two answers.

use crate::api::{Now, TrunkDownReason};
use crate::core::{Core, TimerKey, TrunkTimer};
use crate::random::spread;
use crate::register::Change;
use crate::transaction::{ClientRequest, Owner, TxId};
use offhook_wire_sip::{Message, Method, Name};
use std::time::Duration;

/// An answer later than this counts as none, although the transaction goes on repeating the question.
const PATIENCE: Duration = Duration::from_secs(8);
/// While something is wrong, questions come at least this often.
const WORRIED_EVERY: Duration = Duration::from_secs(10);
const MISSES_TO_DOWN: u32 = 3;
const ANSWERS_TO_UP: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Unknown,
    Up { misses: u32 },
    Down { answers: u32 },
}

/// One trunk's keep-alive.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    trunk: usize,
    every: Duration,
    question: Option<TxId>,
    unknown_misses: u32,
    health: Health,
}

impl KeepAlive {
    pub fn start(core: &mut Core, now: Now, trunk: usize, every: Duration) -> Self {
        core.after(now, TimerKey::Trunk(trunk, TrunkTimer::Probe), Duration::ZERO);
        Self { trunk, every, question: None, unknown_misses: 0, health: Health::Unknown }
    }

    /// Time to ask.
    pub fn on_probe(&mut self, core: &mut Core, now: Now) {
        self.forget_question(core);
        self.question = self.send(core, now);
        core.after(now, TimerKey::Trunk(self.trunk, TrunkTimer::ProbeSilence), PATIENCE);
    }

    pub fn on_silence(&mut self, core: &mut Core, now: Now) -> Change {
        self.forget_question(core);
        self.missed(core, now, TrunkDownReason::Silent)
    }

    pub fn on_response(&mut self, core: &mut Core, now: Now, tx: TxId, response: &Message<'_>) -> Change {
        let code = response.code().unwrap_or_default();
        if self.question != Some(tx) || code < 200 {
            return Change::None;
        }
        self.question = None;
        core.timers.cancel(&TimerKey::Trunk(self.trunk, TrunkTimer::ProbeSilence));
        // Any word shows life, 404 and 405 too; only these say that calls would fail.
        if matches!(code, 408 | 500 | 502 | 503 | 504) {
            return self.missed(core, now, TrunkDownReason::Refusing(code));
        }
        self.answered(core, now)
    }

    pub fn stop(&mut self, core: &mut Core) {
        self.forget_question(core);
        core.timers.cancel(&TimerKey::Trunk(self.trunk, TrunkTimer::Probe));
        core.timers.cancel(&TimerKey::Trunk(self.trunk, TrunkTimer::ProbeSilence));
    }

    fn answered(&mut self, core: &mut Core, now: Now) -> Change {
        let (health, change) = match self.health {
            Health::Unknown => (Health::Up { misses: 0 }, Change::Up),
            Health::Up { .. } => (Health::Up { misses: 0 }, Change::None),
            Health::Down { answers } if answers + 1 >= ANSWERS_TO_UP => (Health::Up { misses: 0 }, Change::Up),
            Health::Down { answers } => (Health::Down { answers: answers + 1 }, Change::None),
        };
        self.health = health;
        self.ask_again(core, now);
        change
    }

    fn missed(&mut self, core: &mut Core, now: Now, reason: TrunkDownReason) -> Change {
        let misses = match &mut self.health {
            Health::Unknown => &mut self.unknown_misses,
            Health::Up { misses } => misses,
            Health::Down { answers } => {
                *answers = 0;
                self.ask_again(core, now);
                return Change::None;
            }
        };
        *misses += 1;
        let down = *misses >= MISSES_TO_DOWN;
        if down {
            self.health = Health::Down { answers: 0 };
        }
        self.ask_again(core, now);
        if down { Change::Down(reason) } else { Change::None }
    }

    fn ask_again(&self, core: &mut Core, now: Now) {
        let calm = matches!(self.health, Health::Up { misses: 0 });
        let every = if calm { self.every } else { self.every.min(WORRIED_EVERY) };
        let pause = spread(core.random.as_mut(), every, 90, 110);
        core.after(now, TimerKey::Trunk(self.trunk, TrunkTimer::Probe), pause);
    }

    fn forget_question(&mut self, core: &mut Core) {
        if let Some(tx) = self.question.take() {
            core.drop_client(tx);
        }
    }

    fn send(&self, core: &mut Core, now: Now) -> Option<TxId> {
        let slot = core.slot(self.trunk).cloned()?;
        let uri = format!("sip:{}", slot.trunk.config().domain);
        let (branch, tag, call_id) = (core.branch(), core.tag(), core.call_id());
        let own = format!("<sip:{}@{}>", slot.trunk.contact_user(), slot.socket.advertised);
        let bytes = core
            .request_builder(&Method::Options, &uri, &slot.socket, &branch)
            .header(Name::From, format!("{own};tag={tag}"))
            .header(Name::To, format!("<{uri}>"))
            .header(Name::CallId, call_id)
            .header(Name::CSeq, "1 OPTIONS")
            .header(Name::Contact, own)
            .header(Name::Accept, "application/sdp")
            .to_bytes()
            .ok()?;
        let request = ClientRequest {
            owner: Owner::KeepAlive(self.trunk),
            trunk: self.trunk,
            method: Method::Options,
            branch,
            to: slot.trunk.config().proxy,
            local: slot.socket.local,
            bytes,
        };
        Some(core.send(now, request))
    }
}
