//! An SFU, a gateway and a recorder as call-control sees them: they answer requests by script, remember what they
//! carry, and are told what happens to their legs.
use offhook_bus::{Bus, Incoming, Presence, Target, wall_now};
use offhook_contract::fact::{FactReceipt, StoreFact};
use offhook_contract::gateway::*;
use offhook_contract::link::{LinkKey, LinkProfile};
use offhook_contract::node::{NodeState, TrunkState};
use offhook_contract::recorder::*;
use offhook_contract::sfu::*;
use offhook_contract::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// What the nodes refuse, by request name.
#[derive(Default, Clone)]
pub struct Script {
    pub refuse: HashMap<&'static str, (ErrorCode, &'static str)>,
    pub trunk_down: bool,
    pub no_recorder: bool,
}

impl Script {
    pub fn refusing(name: &'static str, code: ErrorCode, message: &'static str) -> Self {
        Self { refuse: HashMap::from([(name, (code, message))]), ..Self::default() }
    }
}

/// A request that a node received.
#[derive(Debug, Clone)]
pub struct Asked {
    pub name: String,
    pub context: Context,
    pub body: serde_json::Value,
}

#[derive(Default)]
pub struct Carried {
    pub rooms: BTreeMap<String, RoomRow>,
    pub telephones: BTreeMap<String, TelephoneLegRow>,
}

pub struct Nodes {
    bus: Bus,
    pub asked: mpsc::UnboundedReceiver<Asked>,
    pub carried: Arc<Mutex<Carried>>,
    pub script: Arc<Mutex<Script>>,
    sequence: u64,
    producer: String,
    presences: Vec<(DaemonKind, Presence, watch::Sender<NodeRow>)>,
}

fn node(kind: DaemonKind) -> NodeId {
    NodeId::parse(format!("{kind}-1")).unwrap()
}

/// A node that has just come.
pub fn ready(node: NodeId, kind: DaemonKind) -> NodeRow {
    NodeRow {
        node,
        kind,
        boot: BootId::parse("first").unwrap(),
        version: "test".into(),
        started_ms: wall_now(),
        state: NodeState::Ready,
        load: 0,
        capacity: 100,
        media_addresses: Vec::new(),
        certificate_fingerprint: None,
        trunks: Vec::new(),
    }
}

fn key() -> LinkKey {
    LinkKey { profile: LinkProfile::AeadAes128Gcm, key: Secret::new("AA=="), salt: Secret::new("AA==") }
}

fn offer() -> LinkOffer {
    LinkOffer {
        addresses: vec!["127.0.0.1:7882".parse().unwrap()],
        key: key(),
        slot_ssrcs: vec![1, 2, 3, 4],
        announcer_ssrc: 5,
        codecs: vec![CodecName::Opus, CodecName::Pcma],
        source_id: 9,
    }
}

fn answer() -> LinkAnswer {
    LinkAnswer {
        addresses: vec!["127.0.0.1:16384".parse().unwrap()],
        key: key(),
        ssrc: 7,
        codecs: vec![CodecName::Pcma],
    }
}

impl Nodes {
    pub async fn start(bus: &Bus, script: Script) -> Self {
        let (sender, asked) = mpsc::unbounded_channel();
        let carried = Arc::new(Mutex::new(Carried::default()));
        let mut kinds = vec![DaemonKind::Sfu, DaemonKind::Sip];
        if !script.no_recorder {
            kinds.push(DaemonKind::Recorder);
        }
        let trunk_up = !script.trunk_down;
        let script = Arc::new(Mutex::new(script));
        let mut presences = Vec::new();
        for kind in kinds {
            let mut server = bus.serve(kind, Target::Node(node(kind))).await.unwrap();
            let (sender, carried, script, told) = (sender.clone(), carried.clone(), script.clone(), bus.clone());
            tokio::spawn(async move {
                while let Some(incoming) = server.next().await {
                    answer_one(incoming, &told, &sender, &carried, &script);
                }
            });
            let trunk = TrunkState { trunk: TrunkName::parse("carrier").unwrap(), up: trunk_up, emergency: false };
            let row = NodeRow {
                certificate_fingerprint: Some("ab".repeat(32)),
                trunks: if kind == DaemonKind::Sip { vec![trunk] } else { Vec::new() },
                ..ready(node(kind), kind)
            };
            let (rows, receiver) = watch::channel(row);
            presences.push((kind, bus.announce(receiver), rows));
        }
        Self { bus: bus.clone(), asked, carried, script, sequence: 0, producer: "outbox-1".into(), presences }
    }

    pub fn count(&self) -> i64 {
        i64::try_from(self.presences.len()).unwrap()
    }

    /// Waits until anybody on the bus sees the nodes.
    pub async fn wait_until_seen(&self, bus: &Bus) {
        let wanted = self.presences.len();
        let mut table = bus.nodes();
        let seen = table.wait_for(|rows| rows.iter().filter(|r| r.kind != DaemonKind::Control).count() >= wanted);
        tokio::time::timeout(crate::stage::PATIENCE, seen).await.expect("the nodes are not seen");
    }

    /// The next request of this name; others on the way are passed over.
    pub async fn expect(&mut self, name: &str) -> Asked {
        let found = async {
            loop {
                let asked = self.asked.recv().await.expect("the nodes are gone");
                if asked.name == name {
                    return asked;
                }
            }
        };
        tokio::time::timeout(crate::stage::PATIENCE, found).await.unwrap_or_else(|_| panic!("{name} was not asked for"))
    }

    pub fn publish(&self, tenant: &str, call: &str, event: Event) {
        self.bus.publish(&context(tenant, call), &event).unwrap();
    }

    pub fn connected(&self, call: &str, leg: &str) {
        let event = event::PeerConnected {
            room: RoomId::parse(call).unwrap(),
            leg: LegId::parse(leg).unwrap(),
            srtp_profile: "SRTP_AEAD_AES_256_GCM".into(),
        };
        self.publish("dev", call, Event::PeerConnected(event));
    }

    /// Sends a fact as an outbox does, and waits for `stored`.
    pub async fn fact(&mut self, call: &str, fact: Fact) -> FactRecord {
        self.sequence += 1;
        let record = FactRecord {
            producer: self.producer.clone(),
            sequence: self.sequence,
            tenant: TenantId::parse("dev").unwrap(),
            call: CallId::parse(call).unwrap(),
            at_ms: wall_now(),
            fact,
        };
        self.store(&record).await;
        record
    }

    pub async fn store(&self, record: &FactRecord) {
        let body = StoreFact { record: record.clone() };
        let context = context(record.tenant.as_str(), record.call.as_str());
        let reply = self.bus.request(Target::Any, &context, &body, Duration::from_secs(5)).await.unwrap();
        assert_eq!(reply, FactReceipt::Stored);
    }
}

pub fn context(tenant: &str, call: &str) -> Context {
    Context { tenant: Some(TenantId::parse(tenant).unwrap()), call: Some(CallId::parse(call).unwrap()), epoch: None }
}

macro_rules! serve {
    ($incoming:expr, $carried:expr, { $($request:ty => $reply:expr),* $(,)? }) => {
        match $incoming.name.as_str() {
            $(<$request>::NAME => {
                let body: $request = $incoming.body().unwrap();
                let context = $incoming.context.clone();
                #[allow(clippy::redundant_closure_call)]
                let reply = ($reply)(&mut *$carried.lock().unwrap(), &context, body);
                $incoming.reply::<$request>(Ok(reply));
            })*
            other => panic!("no node knows {other}"),
        }
    };
}

fn answer_one(
    incoming: Incoming,
    bus: &Bus,
    asked: &mpsc::UnboundedSender<Asked>,
    carried: &Mutex<Carried>,
    script: &Mutex<Script>,
) {
    let is_inventory = incoming.name == "inventory";
    if !is_inventory {
        let body = peek(&incoming);
        let _ = asked.send(Asked { name: incoming.name.clone(), context: incoming.context.clone(), body });
    }
    let refusal = script.lock().unwrap().refuse.get(incoming.name.as_str()).copied();
    if let Some((code, message)) = refusal {
        return incoming.refuse(&RequestError::new(code, message));
    }
    if is_inventory {
        return inventory(incoming, carried);
    }
    let (context, joined) = (incoming.context.clone(), incoming.body::<JoinPeer>().ok());
    serve!(incoming, carried, {
        OpenRoom => |c: &mut Carried, x: &Context, b: OpenRoom| { open_room(c, x, &b); Done {} },
        CloseRoom => |c: &mut Carried, _: &Context, b: CloseRoom| { c.rooms.remove(b.room.as_str()); Done {} },
        JoinPeer => |c: &mut Carried, _: &Context, b: JoinPeer| {
            place(c, &b.room, &b.leg, LegTransport::Peer);
            PeerJoined { answer_sdp: "v=0 answer".into(), slot_mids: vec!["1".into(), "2".into()], announcer_mid: Some("5".into()) }
        },
        OpenLink => |c: &mut Carried, _: &Context, b: OpenLink| { place(c, &b.room, &b.leg, LegTransport::Link); offer() },
        ConnectLink => |_: &mut Carried, _: &Context, _: ConnectLink| Done {},
        RemoveLeg => |_: &mut Carried, _: &Context, _: RemoveLeg| Done {},
        MuteLeg => |_: &mut Carried, _: &Context, _: MuteLeg| Done {},
        HoldLeg => |_: &mut Carried, _: &Context, _: HoldLeg| Done {},
        OpenTap => |_: &mut Carried, _: &Context, b: OpenTap| TapOffer {
            recording: b.recording, addresses: Vec::new(), fingerprint: "cd".repeat(32), token: Secret::new("t"),
        },
        CloseTap => |_: &mut Carried, _: &Context, _: CloseTap| Done {},
        DialTelephone => |c: &mut Carried, x: &Context, b: DialTelephone| {
            telephone(c, x, &b.leg, true);
            TelephoneDialled { link: answer(), sip_call_id: format!("sip-{}", b.leg) }
        },
        RingTelephone => |_: &mut Carried, _: &Context, _: RingTelephone| Done {},
        AnswerTelephone => |_: &mut Carried, _: &Context, _: AnswerTelephone| TelephoneAnswered { link: answer() },
        HangUpTelephone => |c: &mut Carried, _: &Context, b: HangUpTelephone| { c.telephones.remove(b.leg.as_str()); Done {} },
        SendDigits => |_: &mut Carried, _: &Context, _: SendDigits| Done {},
        HoldTelephone => |_: &mut Carried, _: &Context, _: HoldTelephone| Done {},
        StartRecording => |_: &mut Carried, _: &Context, _: StartRecording| Done {},
        StopRecording => |_: &mut Carried, _: &Context, _: StopRecording| Done {},
        GrantFile => |_: &mut Carried, _: &Context, _: GrantFile| FileGrant {
            url: Secret::new(FILES.lock().unwrap().clone()), fingerprint: None, expires_ms: wall_now().plus_ms(60_000),
        },
    });
    if let Some(JoinPeer { room, leg, .. }) = joined {
        let up = event::PeerConnected { room, leg, srtp_profile: "SRTP_AEAD_AES_256_GCM".into() };
        bus.publish(&context, &Event::PeerConnected(up)).unwrap();
    }
}

/// Where the recorder's files are served; set by the test that serves them.
pub static FILES: Mutex<String> = Mutex::new(String::new());

fn peek(incoming: &Incoming) -> serde_json::Value {
    macro_rules! try_all {
        ($($request:ty),*) => {
            match incoming.name.as_str() {
                $(<$request>::NAME => serde_json::to_value(incoming.body::<$request>().unwrap()).unwrap(),)*
                _ => serde_json::Value::Null,
            }
        };
    }
    try_all!(
        OpenRoom,
        CloseRoom,
        JoinPeer,
        OpenLink,
        ConnectLink,
        MuteLeg,
        HoldLeg,
        OpenTap,
        CloseTap,
        DialTelephone,
        RingTelephone,
        AnswerTelephone,
        HangUpTelephone,
        SendDigits,
        HoldTelephone,
        StartRecording,
        StopRecording,
        GrantFile
    )
}

fn open_room(carried: &mut Carried, context: &Context, body: &OpenRoom) {
    let row = RoomRow {
        room: body.room.clone(),
        tenant: context.tenant.clone().unwrap(),
        call: context.call.clone().unwrap(),
        epoch: context.epoch,
        kind: body.kind,
        opened_ms: wall_now(),
        legs: Vec::new(),
        taps: Vec::new(),
    };
    carried.rooms.entry(body.room.as_str().to_owned()).or_insert(row);
}

fn place(carried: &mut Carried, room: &RoomId, leg: &LegId, transport: LegTransport) {
    let row = carried.rooms.get_mut(room.as_str()).unwrap();
    row.legs.retain(|l| l.leg != *leg);
    row.legs.push(RoomLegRow { leg: leg.clone(), transport, connected: true, muted: false, held: false });
}

fn telephone(carried: &mut Carried, context: &Context, leg: &LegId, outbound: bool) {
    let row = TelephoneLegRow {
        leg: leg.clone(),
        call: context.call.clone().unwrap(),
        tenant: context.tenant.clone().unwrap(),
        epoch: context.epoch,
        trunk: TrunkName::parse("carrier").unwrap(),
        outbound,
        number: None,
        state: TelephoneState::Talking,
        since_ms: wall_now(),
        sip_call_id: format!("sip-{leg}"),
    };
    carried.telephones.insert(leg.as_str().to_owned(), row);
}

/// All three daemons call it `inventory`; the body tells nothing, so the subject's node is told by trial.
fn inventory(incoming: Incoming, carried: &Mutex<Carried>) {
    let carried = carried.lock().unwrap();
    // A reply with all three shapes in one: each reader takes the fields that it knows.
    #[derive(serde::Serialize)]
    struct All {
        rooms: Vec<RoomRow>,
        legs: Vec<TelephoneLegRow>,
        trunks: Vec<TrunkState>,
        recordings: Vec<RecordingRow>,
    }
    let all = All {
        rooms: carried.rooms.values().cloned().collect(),
        legs: carried.telephones.values().cloned().collect(),
        trunks: Vec::new(),
        recordings: Vec::new(),
    };
    drop(carried);
    reply_all(incoming, serde_json::to_value(all).unwrap());
}

/// A request type whose reply is any JSON.
#[derive(serde::Serialize, serde::Deserialize)]
struct AnyInventory {}
impl Request for AnyInventory {
    const DAEMON: DaemonKind = DaemonKind::Sfu;
    const NAME: &'static str = "inventory";
    type Reply = serde_json::Value;
}

fn reply_all(incoming: Incoming, value: serde_json::Value) {
    incoming.reply::<AnyInventory>(Ok(value));
}
