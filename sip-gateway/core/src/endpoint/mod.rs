//! The one entry: datagrams, orders and the time go in; datagrams and events come out.

mod agents;
mod input;
mod invite;

use crate::api::{Command, CommandError, EMERGENCY_LEGS, EndpointConfig, LegHandle, Now, Output, SocketConfig, Stats};
use crate::call::Leg;
use crate::core::{Core, Slot, TimerKey};
use crate::transaction::{Owner, Timer, TxId};
use crate::trunk::{Trunk, TrunkConfig};
use agents::Agents;
use offhook_contract::TrunkName;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// A SIP user agent for all trunks of one gateway. Owns no socket, clock or thread.
///
/// After every call: send what [`Self::poll_output`] gives until it gives nothing, and arm one timer for
/// [`Self::poll_timeout`].
///
/// ```
/// use offhook_contract::dial::NumberingPlan;
/// use offhook_contract::{HangupCause, PhoneNumber, TenantId, TrunkName};
/// use offhook_sip_core::api::*;
/// use offhook_sip_core::random::Seeded;
/// use offhook_sip_core::trunk::*;
/// use offhook_sip_core::SipEndpoint;
/// use offhook_wire_sdp::telephony::{AudioSession, Codec};
/// use std::time::Duration;
///
/// let local = "0.0.0.0:5060".parse().unwrap();
/// let advertised = "192.0.2.1:5060".parse().unwrap();
/// let trunk = TrunkConfig {
///     name: TrunkName::parse("carrier").unwrap(),
///     tenant: TenantId::parse("acme").unwrap(),
///     proxy: "198.51.100.1:5060".parse().unwrap(),
///     sources: vec!["198.51.100.0/28".parse().unwrap()],
///     domain: "sip.carrier.example".into(),
///     credentials: None,
///     codecs: vec![Codec::Pcmu, Codec::Pcma],
///     numbers: vec![PhoneNumber::try_from("+15550100".to_owned()).unwrap()],
///     numbering: NumberingPlan::default(),
///     caller_id: Some("+15550100".into()),
///     from: None,
///     asserted: AssertedIdentity::Asserted,
///     registration: None,
///     keep_alive: None,
///     local,
/// };
/// let config = EndpointConfig::new(vec![SocketConfig { local, advertised }], vec![trunk], Box::new(Seeded::new(1)));
/// let mut endpoint = SipEndpoint::new(config)?;
/// let now = Duration::ZERO; // time since the process began, for example
///
/// let media = AudioSession::new("192.0.2.1".parse().unwrap(), 30_000, &[Codec::Pcmu, Codec::Pcma]);
/// let dial = Dial {
///     trunk: TrunkName::parse("carrier").unwrap(),
///     number: "+15551230000".into(),
///     caller: None,
///     media,
///     ring_timeout: Duration::from_secs(60),
///     max_duration: None,
///     emergency: false,
/// };
/// let leg = endpoint.handle_command(now, Command::Dial(dial))?.unwrap();
/// while let Some(output) = endpoint.poll_output() {
///     match output {
///         Output::Transmit { to, from_local, bytes } => assert!(bytes.starts_with(b"INVITE sip:+15551230000@")),
///         Output::Leg { leg, event } => { /* LegEvent::Ringing, EarlyMedia(agreed), Answered(agreed), Ended(..) */ }
///         Output::TrunkUp { .. } | Output::TrunkDown { .. } | Output::Refused { .. } => {}
///     }
/// }
/// // … later: endpoint.handle_input(now, from, local, &datagram), and when poll_timeout() has come:
/// endpoint.handle_timeout(endpoint.poll_timeout().unwrap());
/// endpoint.handle_command(now, Command::HangUp { leg, cause: HangupCause::Cancelled })?;
/// # Ok::<(), CommandError>(())
/// ```
pub struct SipEndpoint {
    core: Core,
    agents: Agents,
    legs: HashMap<LegHandle, Leg>,
    /// By Call-ID and our tag.
    dialogs: HashMap<(String, String), LegHandle>,
    sockets: Vec<SocketConfig>,
    max_legs: usize,
    draining: bool,
}

impl SipEndpoint {
    /// Checks the trunks. Registrations and keep-alives begin with the first [`Self::handle_timeout`].
    pub fn new(mut config: EndpointConfig) -> Result<Self, CommandError> {
        let trunks = std::mem::take(&mut config.trunks);
        let (sockets, max_legs) = (config.sockets.clone(), config.max_legs);
        let mut endpoint = Self {
            core: Core::new(config),
            agents: Agents::default(),
            legs: HashMap::new(),
            dialogs: HashMap::new(),
            sockets,
            max_legs,
            draining: false,
        };
        endpoint.set_trunks(Now::ZERO, trunks)?;
        Ok(endpoint)
    }

    /// A datagram that came from `from` to our socket `to_local`.
    pub fn handle_input(&mut self, now: Now, from: SocketAddr, to_local: SocketAddr, bytes: &[u8]) {
        self.on_datagram(now, from, to_local, bytes);
    }

    /// Carries out an order. [`Command::Dial`] gives the new leg's handle.
    pub fn handle_command(&mut self, now: Now, command: Command) -> Result<Option<LegHandle>, CommandError> {
        match command {
            Command::Dial(dial) => return self.dial(now, dial).map(Some),
            Command::Ring { leg } => self.with_leg(leg, |leg, core| leg.ring(core, now))?,
            Command::Early { leg, media } => self.with_leg(leg, |leg, core| leg.early(core, now, media))?,
            Command::Answer { leg, media, max_duration } => {
                self.with_leg(leg, |leg, core| leg.answer(core, now, media, max_duration))?;
            }
            Command::Reject { leg, cause } => self.with_leg(leg, |leg, core| leg.reject(core, now, cause))?,
            Command::HangUp { leg, cause } => self.with_leg(leg, |leg, core| leg.hang_up(core, now, cause))?,
            Command::SetTrunks(trunks) => self.set_trunks(now, trunks)?,
            Command::Drain => {
                self.draining = true;
                self.agents.drain(&mut self.core, now);
            }
        }
        Ok(None)
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(key) = self.core.timers.pop_due(now) {
            match key {
                TimerKey::Client(tx, timer) => self.on_client_timer(now, tx, timer),
                TimerKey::Server(tx, timer) => self.on_server_timer(now, tx, timer),
                TimerKey::Leg(handle, timer) => self.visit(handle, |leg, core| leg.on_timer(core, now, timer)),
                TimerKey::Trunk(trunk, timer) => self.agents.on_timer(&mut self.core, now, trunk, timer),
            }
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.core.poll_output()
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Now> {
        self.core.timers.next()
    }

    pub const fn stats(&self) -> Stats {
        self.core.stats
    }

    /// Legs that are somebody's call.
    pub fn live_legs(&self) -> usize {
        self.legs.values().filter(|leg| leg.is_live()).count()
    }

    /// Legs, ending ones included: those wait at most 64 s for the other side's last word.
    pub fn legs(&self) -> usize {
        self.legs.len()
    }

    /// Transactions, those included that only absorb repeated messages for up to 32 s.
    pub fn transactions(&self) -> usize {
        self.core.clients.len() + self.core.servers.len()
    }

    pub fn timers(&self) -> usize {
        self.core.timers.len()
    }

    /// The Call-ID under which the other side knows the leg.
    pub fn sip_call_id(&self, leg: LegHandle) -> Option<&str> {
        self.legs.get(&leg).map(Leg::call_id)
    }

    /// Whether calls can be placed over the trunk now, as far as is known.
    pub fn is_trunk_up(&self, trunk: &TrunkName) -> bool {
        let place = self.core.slots.iter().position(|slot| slot.trunk.name() == trunk && slot.active);
        place.is_some_and(|place| self.agents.is_up(place))
    }

    fn dial(&mut self, now: Now, dial: crate::api::Dial) -> Result<LegHandle, CommandError> {
        if self.draining {
            return Err(CommandError::Draining);
        }
        let limit = self.max_legs + if dial.emergency { EMERGENCY_LEGS } else { 0 };
        if self.legs.len() >= limit || (!dial.emergency && self.core.is_full()) {
            return Err(CommandError::TooManyLegs(limit));
        }
        let place = self.core.slots.iter().position(|slot| *slot.trunk.name() == dial.trunk && slot.active);
        let place = place.ok_or_else(|| CommandError::UnknownTrunk(dial.trunk.clone()))?;
        let handle = LegHandle(self.core.next_id());
        let leg = Leg::dial(&mut self.core, now, handle, place, dial)?;
        self.insert(handle, leg);
        Ok(handle)
    }

    fn insert(&mut self, handle: LegHandle, leg: Leg) {
        self.dialogs.insert((leg.call_id().to_owned(), leg.local_tag().to_owned()), handle);
        self.legs.insert(handle, leg);
    }

    fn with_leg(
        &mut self,
        handle: LegHandle,
        order: impl FnOnce(&mut Leg, &mut Core) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let mut result = Err(CommandError::UnknownLeg);
        self.visit(handle, |leg, core| result = order(leg, core));
        result
    }

    /// Lets a leg act and forgets it when it is gone.
    fn visit(&mut self, handle: LegHandle, act: impl FnOnce(&mut Leg, &mut Core)) {
        let Some(leg) = self.legs.get_mut(&handle) else { return };
        act(leg, &mut self.core);
        if leg.is_gone() {
            self.core.stop_leg_timers(handle);
            if let Some(leg) = self.legs.remove(&handle) {
                self.dialogs.remove(&(leg.call_id().to_owned(), leg.local_tag().to_owned()));
            }
        }
    }

    fn on_client_timer(&mut self, now: Now, tx: TxId, timer: Timer) {
        let Some((owner, fx)) = self.core.clients.on_timer(tx, timer) else { return };
        self.core.stats.retransmissions_out += u64::from(fx.send);
        self.core.apply_client(now, tx, &fx);
        if !fx.timed_out {
            return;
        }
        match owner {
            Owner::Leg(handle) => self.visit(handle, |leg, core| leg.on_transaction_timeout(core, tx)),
            owner => self.agents.on_transaction_timeout(&mut self.core, now, owner, tx),
        }
    }

    fn on_server_timer(&mut self, now: Now, tx: TxId, timer: Timer) {
        // A refusal without ACK (timer H) concerns nobody: the leg has ended with the refusal.
        let Some(fx) = self.core.servers.on_timer(tx, timer) else { return };
        self.core.stats.retransmissions_out += u64::from(fx.send);
        self.core.apply_server(now, tx, &fx);
    }

    /// Puts the trunks in place. All are checked before any takes effect.
    fn set_trunks(&mut self, now: Now, configs: Vec<TrunkConfig>) -> Result<(), CommandError> {
        let mut slots = Vec::with_capacity(configs.len());
        for config in configs {
            let trunk = Trunk::new(config)?;
            let local = trunk.config().local;
            let socket = self.sockets.iter().find(|socket| socket.local == local).copied();
            let socket = socket.ok_or_else(|| CommandError::UnknownSocket(trunk.name().clone()))?;
            slots.push(Slot { trunk: Arc::new(trunk), socket, active: true, password_proved: false });
        }
        for slot in &mut self.core.slots {
            slot.active = false;
        }
        for slot in slots {
            let known = self.core.slots.iter_mut().find(|known| known.trunk.name() == slot.trunk.name());
            match known {
                Some(known) => {
                    let same = known.trunk.config().credentials == slot.trunk.config().credentials;
                    *known = Slot { password_proved: same && known.password_proved, ..slot };
                }
                None => self.core.slots.push(slot),
            }
        }
        self.agents.restart(&mut self.core, now);
        Ok(())
    }
}
