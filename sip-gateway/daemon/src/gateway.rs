//! The gateway's one task: it owns the SIP endpoint, the table of legs and the media threads' orders.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use offhook_bus::{Bus, Incoming, Server};
use offhook_contract::{Context, Event, HangupCause, NodeId, TrunkName};
use offhook_media::EncodedPrompt;
use offhook_runtime::Lifecycle;
use offhook_sip_core::SipEndpoint;
use offhook_sip_core::api::{Command, CommandError, LegHandle, Output};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::facts::Facts;
use crate::gate::Gate;
use crate::incoming::Decision;
use crate::legs::Legs;
use crate::media::{MediaNews, MediaPool, PortRange};
use crate::report::Reporter;
use crate::sockets::Sockets;
use crate::trunks::{self, Health, Resolved};

/// Between two looks at figures and presence.
const TICK: Duration = Duration::from_secs(1);
/// Names of carriers are looked up again after this time.
const RESOLVE_PERIOD: Duration = Duration::from_secs(120);
/// After the last leg ended: time for its BYE to be answered, and for the registrars to hear that we leave.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A request that came before its leg is known: call-control acts as soon as it has decided, and its order may overtake
/// its own decision.
pub(crate) struct Parked {
    pub(crate) request: Incoming,
    until: Duration,
}

/// How long such a request waits, and how many may.
const PARKING_TIME: Duration = Duration::from_secs(2);
const PARKING_PLACES: usize = 256;

/// Everything that belongs together for as long as the daemon runs.
pub struct Gateway {
    pub(crate) node: NodeId,
    pub(crate) bus: Bus,
    pub(crate) config: Config,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) endpoint: SipEndpoint,
    pub(crate) sockets: Sockets,
    pub(crate) media: MediaPool,
    pub(crate) news: mpsc::Receiver<MediaNews>,
    pub(crate) ports: PortRange,
    pub(crate) legs: Legs,
    /// Incoming calls that call-control has not decided about.
    pub(crate) asked: HashMap<LegHandle, TrunkName>,
    /// Requests about legs that a decision on its way may name.
    pub(crate) parked: Vec<Parked>,
    pub(crate) gate: Gate,
    pub(crate) trunks: Vec<Resolved>,
    pub(crate) health: Health,
    pub(crate) facts: Facts,
    pub(crate) decisions: (mpsc::Sender<Decision>, mpsc::Receiver<Decision>),
    pub(crate) resolved: (mpsc::Sender<Vec<Resolved>>, mpsc::Receiver<Vec<Resolved>>),
    pub(crate) hold_prompt: Arc<EncodedPrompt>,
    pub(crate) reporter: Reporter,
    pub(crate) unix_ns_at_zero: u64,
    pub(crate) epoch: Instant,
}

impl Gateway {
    /// Time since the epoch of endpoint and media threads alike.
    pub(crate) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Calls of a trunk, those that call-control has not decided about among them.
    pub(crate) fn calls_on(&self, trunk: &TrunkName) -> usize {
        self.legs.on_trunk(trunk) + self.asked.values().filter(|asked| *asked == trunk).count()
    }

    /// Runs until drained or stopped.
    pub async fn run(mut self, mut server: Server) {
        let lifecycle = self.lifecycle.clone();
        let mut reloads = lifecycle.reload();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut resolve_again = tokio::time::interval(RESOLVE_PERIOD);
        resolve_again.reset();
        let mut draining = false;
        lifecycle.set_ready(true);
        loop {
            self.pump().await;
            if draining && self.legs.is_empty() && self.asked.is_empty() {
                break;
            }
            let wake = self.endpoint.poll_timeout().map_or(TICK, |at| at.saturating_sub(self.now())).min(TICK);
            tokio::select! {
                biased;
                () = lifecycle.stop() => break,
                () = lifecycle.draining(), if !draining => {
                    draining = true;
                    self.command_quietly(Command::Drain);
                }
                Some(decision) = self.decisions.1.recv() => self.decided(decision).await,
                Some(news) = self.news.recv() => self.hear(news).await,
                Some(request) = server.next() => self.take(request),
                Some(trunks) = self.resolved.1.recv() => self.take_trunks(trunks),
                file = reloads.next() => self.reload(&file),
                _ = resolve_again.tick() => self.resolve(),
                _ = tick.tick() => {
                    self.unpark();
                    self.report();
                }
                datagram = self.sockets.receive() => {
                    let now = self.now();
                    self.endpoint.handle_input(now, datagram.from, datagram.to_local, &datagram.bytes);
                }
                () = tokio::time::sleep(wake) => {}
            }
        }
        self.finish().await;
    }

    /// Lets SIP act until nothing is due.
    async fn pump(&mut self) {
        self.endpoint.handle_timeout(self.now());
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Transmit { to, from_local, bytes } => self.sockets.send(from_local, to, &bytes),
                Output::Leg { leg, event } => self.leg_event(leg, event).await,
                Output::TrunkUp { trunk } => self.trunk_changed(&trunk, true, "in service"),
                Output::TrunkDown { trunk, reason } => self.trunk_changed(&trunk, false, &reason.to_string()),
                Output::Refused { source, reason } => {
                    tracing::warn!(source = %offhook_runtime::shown(source), %reason, "SIP message refused");
                }
            }
        }
    }

    /// Answers a request now, or when the decision about its leg has come.
    fn take(&mut self, request: Incoming) {
        if !self.asked.is_empty() && self.parked.len() < PARKING_PLACES && self.names_unknown_leg(&request) {
            let until = self.now() + PARKING_TIME;
            self.parked.push(Parked { request, until });
        } else {
            self.answer(request);
        }
    }

    /// Answers the parked requests whose leg is known by now, or whose time is up.
    pub(crate) fn unpark(&mut self) {
        let now = self.now();
        for parked in std::mem::take(&mut self.parked) {
            if now >= parked.until || !self.names_unknown_leg(&parked.request) {
                self.answer(parked.request);
            } else {
                self.parked.push(parked);
            }
        }
    }

    /// An order that can only fail because its leg is gone already.
    pub(crate) fn command_quietly(&mut self, command: Command) {
        if let Err(error) = self.command(command) {
            tracing::debug!(%error, "SIP order not carried out");
        }
    }

    pub(crate) fn command(&mut self, command: Command) -> Result<Option<LegHandle>, CommandError> {
        let now = self.now();
        self.endpoint.handle_command(now, command)
    }

    pub(crate) fn publish(&self, context: &Context, event: &Event) {
        if let Err(error) = self.bus.publish(context, event) {
            tracing::debug!(kind = event.kind(), %error, "event not published");
        }
    }

    fn trunk_changed(&mut self, trunk: &TrunkName, up: bool, reason: &str) {
        if !self.health.set(trunk, up) {
            return;
        }
        if up {
            tracing::info!(%trunk, "trunk is up");
        } else {
            tracing::warn!(%trunk, reason, "trunk is down");
        }
        let event = offhook_contract::event::TrunkChanged {
            node: self.node.clone(),
            trunk: trunk.clone(),
            up,
            reason: reason.to_owned(),
        };
        self.publish(&Context::default(), &Event::TrunkChanged(event));
        self.report();
    }

    fn reload(&mut self, file: &offhook_runtime::ConfigFile) {
        // The process has checked the file already; a mistake here would be one of this moment.
        match Config::read(file) {
            Ok(config) => {
                self.gate.set_rules(config.rules.clone());
                self.config = config;
                self.resolve();
            }
            Err(error) => tracing::error!(%error, "the new configuration is not used"),
        }
    }

    /// Looks up the trunks' addresses in the background.
    fn resolve(&self) {
        let (config, found) = (self.config.clone(), self.resolved.0.clone());
        tokio::spawn(async move {
            let trunks = trunks::resolve(&config).await;
            // Closed means that the gateway has ended.
            let _ = found.send(trunks).await;
        });
    }

    /// Takes what was resolved, if anything changed.
    fn take_trunks(&mut self, mut trunks: Vec<Resolved>) {
        let open = self.sockets.addresses();
        for trunk in &mut trunks {
            let local = trunk.place.as_ref().ok().map(|p| p.local);
            if let Some(local) = local.filter(|l| !open.contains(l)) {
                trunk.place = Err(trunks::TrunkTrouble::NoSocket(local.ip()));
            }
            // A name server that fails for a while does not take a working trunk away.
            if trunk.place == Err(trunks::TrunkTrouble::Unresolved)
                && let Some(before) = self.trunks.iter().find(|t| t.plan.name == trunk.plan.name)
                && before.plan.host == trunk.plan.host
            {
                trunk.place = before.place.clone();
            }
        }
        if trunks == self.trunks {
            return;
        }
        for trunk in &trunks {
            if let Err(trouble) = &trunk.place {
                tracing::warn!(trunk = %trunk.plan.name, %trouble, "trunk cannot be used");
            }
        }
        let sip = trunks.iter().filter_map(Resolved::sip).collect();
        match self.command(Command::SetTrunks(sip)) {
            Ok(_) => {
                self.health.replace(&trunks);
                self.trunks = trunks;
            }
            Err(error) => tracing::error!(%error, "the new trunks are not used"),
        }
        self.report();
    }

    /// Figures and presence.
    pub(crate) fn report(&mut self) {
        let figures = crate::report::Figures {
            media: self.media.counts(),
            legs: self.legs.len(),
            outbound: self.legs.outbound(),
            ports: self.ports.in_use(),
            sip: self.endpoint.stats(),
            sip_dropped: self.sockets.dropped(),
            sip_transactions: self.endpoint.transactions(),
            sip_timers: self.endpoint.timers(),
            facts: self.facts.pending(),
        };
        self.reporter.show(&figures);
        self.reporter.present(self.legs.len(), self.health.states(), self.lifecycle.is_draining());
    }

    /// Ends what still runs, waits for the last messages, and closes everything in order.
    async fn finish(mut self) {
        for leg in self.legs.handles().into_iter().chain(self.asked.keys().copied().collect::<Vec<_>>()) {
            self.command_quietly(Command::HangUp { leg, cause: HangupCause::Drained });
        }
        self.command_quietly(Command::Drain);
        let registered = self.trunks.iter().any(|t| t.plan.registration.is_some());
        let give_up = tokio::time::Instant::now() + LAST_WORDS;
        loop {
            self.pump().await;
            if self.endpoint.legs() == 0 && !registered {
                break;
            }
            let wake = self.endpoint.poll_timeout().map_or(TICK, |at| at.saturating_sub(self.now()));
            tokio::select! {
                () = tokio::time::sleep_until(give_up) => break,
                () = tokio::time::sleep(wake) => {}
                datagram = self.sockets.receive() => {
                    let now = self.now();
                    self.endpoint.handle_input(now, datagram.from, datagram.to_local, &datagram.bytes);
                }
            }
        }
        let Self { facts, reporter, media, .. } = self;
        // Dropping the pool joins its threads, which say goodbye on their legs first.
        let _ = tokio::task::spawn_blocking(move || drop(media)).await;
        facts.close().await;
        reporter.withdraw().await;
    }
}
