//! What runs for a trunk without any call: its registration and its keep-alive, and what they say about it together.

use crate::api::{Now, Output, TrunkDownReason};
use crate::core::{Core, TrunkTimer};
use crate::options::KeepAlive;
use crate::register::{Change, Registration};
use crate::transaction::{Owner, TxId};
use crate::trunk::TrunkConfig;
use offhook_wire_sip::Message;

/// One trunk's agents.
#[derive(Debug, Default)]
struct Agent {
    registration: Option<Registration>,
    keep_alive: Option<KeepAlive>,
    /// What each last said; a part that does not exist says yes.
    registered: bool,
    answering: bool,
    told_up: Option<bool>,
    /// The settings they were started with; unchanged ones are left alone by a reload.
    config: Option<TrunkConfig>,
}

impl Agent {
    const fn is_up(&self) -> bool {
        self.registered && self.answering
    }
}

#[derive(Debug, Default)]
pub(super) struct Agents {
    /// By the trunk's place.
    agents: Vec<Agent>,
}

impl Agents {
    pub fn is_up(&self, trunk: usize) -> bool {
        self.agents.get(trunk).is_some_and(Agent::is_up)
    }

    /// Starts, stops or leaves alone, as the trunks in their places now say.
    pub fn restart(&mut self, core: &mut Core, now: Now) {
        self.agents.resize_with(core.slots.len(), Agent::default);
        for (place, agent) in self.agents.iter_mut().enumerate() {
            let Some(slot) = core.slot(place).cloned() else { continue };
            let config = slot.active.then(|| slot.trunk.config().clone());
            if same(agent.config.as_ref(), config.as_ref()) {
                continue;
            }
            stop(agent, core, now);
            let was_told = agent.told_up;
            *agent = Agent { told_up: was_told, ..Agent::default() };
            if let Some(config) = config {
                agent.registration = config.registration.map(|time| Registration::start(core, now, place, time));
                agent.keep_alive = config.keep_alive.map(|every| KeepAlive::start(core, now, place, every));
                agent.registered = agent.registration.is_none();
                agent.answering = agent.keep_alive.is_none();
                agent.config = Some(config);
                tell(agent, core, place, None);
            } else {
                agent.told_up = None;
            }
        }
    }

    pub fn drain(&mut self, core: &mut Core, now: Now) {
        for (place, agent) in self.agents.iter_mut().enumerate() {
            stop(agent, core, now);
            if agent.is_up() {
                agent.registered = false;
                tell(agent, core, place, Some(TrunkDownReason::Drained));
            }
        }
    }

    pub fn on_timer(&mut self, core: &mut Core, now: Now, trunk: usize, timer: TrunkTimer) {
        let Some(agent) = self.agents.get_mut(trunk) else { return };
        let (registration, keep_alive) = (&mut agent.registration, &mut agent.keep_alive);
        match (timer, registration, keep_alive) {
            (TrunkTimer::Register, Some(registration), _) => registration.on_timer(core, now),
            (TrunkTimer::Probe, _, Some(keep_alive)) => keep_alive.on_probe(core, now),
            (TrunkTimer::ProbeSilence, _, Some(keep_alive)) => {
                let change = keep_alive.on_silence(core, now);
                answering(agent, core, trunk, change);
            }
            _ => {}
        }
    }

    pub fn on_response(&mut self, core: &mut Core, now: Now, owner: Owner, tx: TxId, response: &Message<'_>) {
        match owner {
            Owner::Registration(trunk) => {
                let Some(agent) = self.agents.get_mut(trunk) else { return };
                let Some(registration) = &mut agent.registration else { return };
                let change = registration.on_response(core, now, tx, response);
                registered(agent, core, trunk, change);
            }
            Owner::KeepAlive(trunk) => {
                let Some(agent) = self.agents.get_mut(trunk) else { return };
                let Some(keep_alive) = &mut agent.keep_alive else { return };
                let change = keep_alive.on_response(core, now, tx, response);
                answering(agent, core, trunk, change);
            }
            Owner::Leg(_) | Owner::Nobody => {}
        }
    }

    pub fn on_transaction_timeout(&mut self, core: &mut Core, now: Now, owner: Owner, tx: TxId) {
        let Owner::Registration(trunk) = owner else { return };
        let Some(agent) = self.agents.get_mut(trunk) else { return };
        let Some(registration) = &mut agent.registration else { return };
        let change = registration.on_timeout(core, now, tx);
        registered(agent, core, trunk, change);
    }
}

fn stop(agent: &mut Agent, core: &mut Core, now: Now) {
    if let Some(registration) = &mut agent.registration {
        registration.withdraw(core, now);
    }
    if let Some(keep_alive) = &mut agent.keep_alive {
        keep_alive.stop(core);
    }
}

fn registered(agent: &mut Agent, core: &mut Core, trunk: usize, change: Change) {
    match change {
        Change::None => {}
        Change::Up => {
            agent.registered = true;
            tell(agent, core, trunk, None);
        }
        Change::Down(reason) => {
            agent.registered = false;
            tell(agent, core, trunk, Some(reason));
        }
    }
}

fn answering(agent: &mut Agent, core: &mut Core, trunk: usize, change: Change) {
    match change {
        Change::None => {}
        Change::Up => {
            agent.answering = true;
            tell(agent, core, trunk, None);
        }
        Change::Down(reason) => {
            agent.answering = false;
            tell(agent, core, trunk, Some(reason));
        }
    }
}

/// Tells a trunk's state when it changed, and a first failure too.
fn tell(agent: &mut Agent, core: &mut Core, trunk: usize, reason: Option<TrunkDownReason>) {
    let up = agent.is_up();
    let Some(name) = core.slot(trunk).map(|slot| slot.trunk.name().clone()) else { return };
    match reason {
        None if up && agent.told_up != Some(true) => {
            agent.told_up = Some(true);
            core.push(Output::TrunkUp { trunk: name });
        }
        Some(reason) if !up && agent.told_up != Some(false) => {
            agent.told_up = Some(false);
            core.push(Output::TrunkDown { trunk: name, reason });
        }
        _ => {}
    }
}

/// Whether nothing changed that the agents depend on.
fn same(old: Option<&TrunkConfig>, new: Option<&TrunkConfig>) -> bool {
    match (old, new) {
        (None, None) => true,
        (Some(old), Some(new)) => {
            (old.proxy, &old.domain, &old.credentials, old.registration, old.keep_alive, old.local)
                == (new.proxy, &new.domain, &new.credentials, new.registration, new.keep_alive, new.local)
        }
        _ => false,
    }
}
