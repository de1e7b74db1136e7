//! The stage: endpoints, a network with loss, duplication and delay, and a clock that only the test moves.

use offhook_contract::dial::NumberingPlan;
use offhook_contract::{HangupCause, Secret, TenantId, TrunkName};
use offhook_sip_core::api::*;
use offhook_sip_core::random::{Random, Seeded};
use offhook_sip_core::trunk::*;
use offhook_sip_core::{Command, SipEndpoint};
use offhook_wire_sdp::telephony::{AudioSession, Codec};
use std::net::SocketAddr;
use std::time::Duration;

pub const GATEWAY: &str = "192.0.2.1:5060";
pub const CARRIER: &str = "198.51.100.1:5060";

pub const fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn name(text: &str) -> TrunkName {
    TrunkName::parse(text).unwrap()
}

/// A trunk named `carrier` of the endpoint at `local` towards `proxy`.
pub fn trunk(local: &str, proxy: &str) -> TrunkConfig {
    TrunkConfig {
        name: name("carrier"),
        tenant: TenantId::parse("acme").unwrap(),
        proxy: addr(proxy),
        sources: Vec::new(),
        domain: "carrier.example".into(),
        credentials: Some(Credentials { username: "account".into(), password: Secret::new("secret"), realm: None }),
        codecs: vec![Codec::Pcmu, Codec::Pcma],
        numbers: Vec::new(),
        numbering: NumberingPlan::default(),
        caller_id: Some("+15550100".into()),
        from: None,
        asserted: AssertedIdentity::None,
        registration: None,
        keep_alive: None,
        local: addr(local),
    }
}

pub fn config(local: &str, trunks: Vec<TrunkConfig>, seed: u64) -> EndpointConfig {
    let socket = SocketConfig { local: addr(local), advertised: addr(local) };
    EndpointConfig::new(vec![socket], trunks, Box::new(Seeded::new(seed)))
}

pub fn media(local: &str) -> AudioSession {
    AudioSession::new(addr(local).ip(), 30_000, &[Codec::Pcmu, Codec::Pcma])
}

/// What happens to a datagram on its way.
pub type Weather = Box<dyn FnMut(&Flight) -> Fate>;

pub enum Fate {
    Arrive,
    Lost,
    Twice,
}

#[derive(Clone)]
pub struct Flight {
    pub at: Duration,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

impl Flight {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn starts(&self, with: &str) -> bool {
        self.bytes.starts_with(with.as_bytes())
    }
}

pub struct World {
    pub now: Duration,
    ends: Vec<(SocketAddr, SipEndpoint)>,
    flying: Vec<Flight>,
    pub weather: Weather,
    /// Everything that was sent, for assertions.
    pub log: Vec<Flight>,
    /// What each endpoint told: its address, the time, the output.
    pub told: Vec<(SocketAddr, Duration, Output)>,
    pub delay: Duration,
}

impl World {
    pub fn new(configs: Vec<EndpointConfig>) -> Self {
        let ends = configs.into_iter().map(|config| (config.sockets[0].local, SipEndpoint::new(config).unwrap()));
        let mut world = Self {
            now: secs(1000),
            ends: ends.collect(),
            flying: Vec::new(),
            weather: Box::new(|_| Fate::Arrive),
            log: Vec::new(),
            told: Vec::new(),
            delay: ms(20),
        };
        world.run(ms(0));
        world
    }

    /// The gateway and a carrier that is an endpoint too.
    pub fn pair() -> Self {
        Self::new(vec![
            config(GATEWAY, vec![trunk(GATEWAY, CARRIER)], 1),
            config(CARRIER, vec![trunk(CARRIER, GATEWAY)], 2),
        ])
    }

    /// The gateway alone; the carrier's address is played by the test.
    pub fn alone(change: impl FnOnce(&mut EndpointConfig)) -> Self {
        let mut config = config(GATEWAY, vec![trunk(GATEWAY, CARRIER)], 1);
        change(&mut config);
        Self::new(vec![config])
    }

    pub fn end(&mut self, at: &str) -> &mut SipEndpoint {
        let at = addr(at);
        &mut self.ends.iter_mut().find(|(address, _)| *address == at).unwrap().1
    }

    pub fn order(&mut self, at: &str, command: Command) -> Result<Option<LegHandle>, CommandError> {
        let now = self.now;
        let result = self.end(at).handle_command(now, command);
        self.collect();
        result
    }

    pub fn dial(&mut self) -> LegHandle {
        self.order(GATEWAY, Command::Dial(dial())).unwrap().unwrap()
    }

    pub fn hang_up(&mut self, at: &str, leg: LegHandle) {
        self.order(at, Command::HangUp { leg, cause: HangupCause::Normal }).unwrap();
    }

    pub fn answer(&mut self, at: &str, leg: LegHandle) {
        self.order(at, Command::Answer { leg, media: media(at), max_duration: None }).unwrap();
    }

    /// A datagram of the scripted carrier, delivered now.
    pub fn inject(&mut self, from: &str, text: &str) {
        let now = self.now;
        self.end(GATEWAY).handle_input(now, addr(from), addr(GATEWAY), text.as_bytes());
        self.collect();
    }

    /// Lets time pass, with everything due in its order.
    pub fn run(&mut self, span: Duration) {
        let until = self.now + span;
        loop {
            self.collect();
            let landing = self.flying.iter().map(|flight| flight.at).min();
            let due = self.ends.iter().filter_map(|(_, end)| end.poll_timeout()).min();
            let Some(next) = landing.into_iter().chain(due).min().filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            let now = self.now;
            for (_, end) in &mut self.ends {
                if end.poll_timeout().is_some_and(|at| at <= now) {
                    end.handle_timeout(now);
                    assert!(end.poll_timeout().is_none_or(|at| at > now), "a timer stays due");
                }
            }
            let (landed, flying) = std::mem::take(&mut self.flying).into_iter().partition(|flight| flight.at <= now);
            self.flying = flying;
            self.collect();
            let landed: Vec<Flight> = landed;
            for flight in landed {
                if let Some((_, end)) = self.ends.iter_mut().find(|(address, _)| *address == flight.to) {
                    end.handle_input(now, flight.from, flight.to, &flight.bytes);
                }
            }
        }
        self.now = until;
    }

    fn collect(&mut self) {
        for (address, end) in &mut self.ends {
            while let Some(output) = end.poll_output() {
                let Output::Transmit { to, from_local, bytes } = output else {
                    self.told.push((*address, self.now, output));
                    continue;
                };
                let flight = Flight { at: self.now + self.delay, from: from_local, to, bytes };
                self.log.push(Flight { at: self.now, ..flight.clone() });
                let copies = match (self.weather)(&flight) {
                    Fate::Arrive => 1,
                    Fate::Lost => 0,
                    Fate::Twice => 2,
                };
                self.flying.extend(std::iter::repeat_n(flight, copies));
            }
        }
    }

    /// What the endpoint at `at` told about its legs, in order.
    pub fn events(&self, at: &str) -> Vec<LegEvent> {
        let at = addr(at);
        let of = self.told.iter().filter(|(address, ..)| *address == at);
        of.filter_map(|(.., output)| match output {
            Output::Leg { event, .. } => Some(event.clone()),
            _ => None,
        })
        .collect()
    }

    /// The leg of the last incoming call at `at`.
    pub fn incoming(&self, at: &str) -> (LegHandle, Incoming) {
        let at = addr(at);
        let found = self.told.iter().rev().find_map(|(address, _, output)| match output {
            Output::Leg { leg, event: LegEvent::Incoming(incoming) } if *address == at => {
                Some((*leg, incoming.clone()))
            }
            _ => None,
        });
        found.expect("a call came in")
    }

    pub fn ended(&self, at: &str) -> Ended {
        let ends: Vec<Ended> = self
            .events(at)
            .into_iter()
            .filter_map(|event| match event {
                LegEvent::Ended(ended) => Some(ended),
                _ => None,
            })
            .collect();
        assert_eq!(ends.len(), 1, "exactly one end at {at}");
        ends[0]
    }

    pub fn agreed(&self, at: &str) -> offhook_wire_sdp::telephony::Agreed {
        let answered = self.events(at).into_iter().find_map(|event| match event {
            LegEvent::Answered(agreed) => Some(agreed),
            _ => None,
        });
        answered.expect("answered")
    }

    /// Datagrams sent so far that begin with `with`.
    pub fn sent(&self, with: &str) -> Vec<Flight> {
        self.log.iter().filter(|flight| flight.starts(with)).cloned().collect()
    }

    pub fn last(&self, with: &str) -> Flight {
        self.sent(with).pop().unwrap_or_else(|| panic!("nothing sent begins with {with}"))
    }

    /// After all has ended and 70 s have passed, nothing is left anywhere.
    pub fn assert_empty(&mut self) {
        self.run(secs(70));
        for (address, end) in &self.ends {
            assert_eq!((end.legs(), end.transactions(), end.timers()), (0, 0, 0), "left at {address}");
        }
    }
}

pub fn dial() -> Dial {
    Dial {
        trunk: name("carrier"),
        number: "+15551230000".into(),
        caller: None,
        media: media(GATEWAY),
        ring_timeout: secs(60),
        max_duration: None,
        emergency: false,
    }
}

/// Loses `lost` and doubles `twice` percent of all datagrams, the same ones for the same seed.
pub fn rough(seed: u64, lost: u64, twice: u64) -> Weather {
    let mut random = Seeded::new(seed);
    Box::new(move |_| {
        let mut bytes = [0; 8];
        random.fill(&mut bytes);
        match u64::from_le_bytes(bytes) % 100 {
            n if n < lost => Fate::Lost,
            n if n < lost + twice => Fate::Twice,
            _ => Fate::Arrive,
        }
    })
}
