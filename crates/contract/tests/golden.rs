//! Golden JSON: newer code reads every message that a release has sent, and writes what it read.
//! `OFFHOOK_BLESS=1 cargo test -p offhook-contract` writes the files of messages that have none yet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
use offhook_contract::audio::{BeepPlan, PromptName};
use offhook_contract::control::{IncomingRoute, RouteIncoming};
use offhook_contract::dial::Destination;
use offhook_contract::event::{DigitReceived, LegProgress, LegStats, PeerConnected, SlotChanged, TrunkChanged};
use offhook_contract::fact::{ConsentKind, FactReceipt, FileRow, SegmentRow, StoreFact, TapCloseReason};
use offhook_contract::gateway::*;
use offhook_contract::node::TrunkState;
use offhook_contract::recorder::*;
use offhook_contract::sfu::*;
use offhook_contract::time::ClockPair;
use offhook_contract::turn::*;
use offhook_contract::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;

const RELEASE: &str = "v0.1.0";

struct Golden {
    seen: BTreeSet<String>,
}

impl Golden {
    fn dir() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(RELEASE)
    }

    /// The sample is what we write today; the file is what the release wrote.
    fn check<T: Serialize + DeserializeOwned>(&mut self, name: &str, sample: &T) {
        assert!(self.seen.insert(name.into()), "two samples are named {name}");
        let path = Self::dir().join(format!("{name}.json"));
        let today = serde_json::to_value(sample).unwrap();
        if !path.exists() && std::env::var_os("OFFHOOK_BLESS").is_some() {
            std::fs::create_dir_all(Self::dir()).unwrap();
            std::fs::write(&path, serde_json::to_string_pretty(&today).unwrap() + "\n").unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name} has no golden file: {e}"));
        let released: Value = serde_json::from_str(&text).unwrap();
        let read: T = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name} is not readable: {e}"));
        assert_eq!(serde_json::to_value(&read).unwrap(), released, "{name} lost something on the way");
        let future = with_unknown_fields(released).to_string();
        if let Err(e) = serde_json::from_str::<T>(&future) {
            panic!("{name} does not ignore unknown fields: {e}");
        }
    }

    fn request<R: Request>(&mut self, request: &R, reply: &R::Reply) {
        let name = format!("{}.{}", R::DAEMON, R::NAME);
        self.check(&name, request);
        self.check(&format!("{name}.reply"), reply);
    }

    fn event(&mut self, event: &Event) {
        let json = serde_json::to_value(event).unwrap();
        assert_eq!(json["kind"], event.kind(), "the subject's word and the body's differ");
        self.check(&format!("event.{}", event.kind()), event);
    }

    fn fact(&mut self, fact: Fact) {
        let record = record(fact);
        let kind = serde_json::to_value(&record.fact).unwrap()["kind"].as_str().unwrap().to_owned();
        self.check(&format!("fact.{kind}"), &record);
    }
}

/// What a newer peer may send: one more field in every object but those that wrap an enum's variant.
fn with_unknown_fields(value: Value) -> Value {
    const VARIANTS: [&str; 6] = ["number", "emergency", "ok", "error", "accept", "reject"];
    match value {
        Value::Object(map) => {
            let wraps_a_variant = map.len() == 1 && map.keys().all(|k| VARIANTS.contains(&k.as_str()));
            let mut grown: serde_json::Map<_, _> = map.into_iter().map(|(k, v)| (k, with_unknown_fields(v))).collect();
            if !wraps_a_variant {
                grown.insert("from_the_future".into(), json!({"x": [1, 2]}));
            }
            Value::Object(grown)
        }
        Value::Array(list) => Value::Array(list.into_iter().map(with_unknown_fields).collect()),
        other => other,
    }
}

fn record(fact: Fact) -> FactRecord {
    let at_ms = UnixMs(1_790_000_000_123);
    FactRecord { producer: "outbox-1".into(), sequence: 7, tenant: tenant(), call: call(), at_ms, fact }
}
fn call() -> CallId {
    CallId::parse("0198c1f2-0000-7000-8000-000000000001").unwrap()
}
fn room() -> RoomId {
    RoomId::from(&call())
}
fn leg() -> LegId {
    LegId::parse("0198c1f2-0000-7000-8000-000000000002").unwrap()
}
fn recording() -> RecordingId {
    RecordingId::parse("0198c1f2-0000-7000-8000-000000000003").unwrap()
}
fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}
fn trunk() -> TrunkName {
    TrunkName::parse("carrier").unwrap()
}
fn number() -> PhoneNumber {
    PhoneNumber::try_from("+4930123456".to_owned()).unwrap()
}
fn epoch() -> Epoch {
    Epoch { bucket: 1_790_000_000_000, revision: 42 }
}
fn key() -> LinkKey {
    let (key, salt) = (Secret::new("AAECAwQFBgcICQoLDA0ODw=="), Secret::new("AAECAwQFBgcICQoL"));
    LinkKey { profile: LinkProfile::AeadAes128Gcm, key, salt }
}
fn link_offer() -> LinkOffer {
    LinkOffer {
        addresses: vec!["127.0.0.1:7882".parse().unwrap(), "[::1]:7882".parse().unwrap()],
        key: key(),
        slot_ssrcs: vec![1, 2, 3, 4],
        announcer_ssrc: 5,
        codecs: vec![CodecName::Opus, CodecName::Pcmu, CodecName::Pcma],
        source_id: 77,
    }
}
fn link_answer() -> LinkAnswer {
    let addresses = vec!["127.0.0.1:20000".parse().unwrap()];
    LinkAnswer { addresses, key: key(), ssrc: 9, codecs: vec![CodecName::Pcma] }
}
fn tap_offer() -> TapOffer {
    TapOffer {
        recording: recording(),
        addresses: vec!["127.0.0.1:7890".parse().unwrap()],
        fingerprint: "ab".repeat(32),
        token: Secret::new("one-time"),
    }
}
fn clock_pair() -> ClockPair {
    let clock = BootId::parse("boot-1").unwrap();
    ClockPair { media: MediaTime { clock, ns: 5_000_000_000 }, wall: UnixMs(1_790_000_000_000) }
}
fn trunk_state() -> TrunkState {
    TrunkState { trunk: trunk(), up: true, emergency: true }
}

#[test]
fn every_message_of_the_release_is_read_and_written_unchanged() {
    let mut golden = Golden { seen: BTreeSet::new() };
    sfu_messages(&mut golden);
    gateway_messages(&mut golden);
    recorder_and_control_messages(&mut golden);
    turn_messages(&mut golden);
    events(&mut golden);
    facts(&mut golden);
    surroundings(&mut golden);
    let committed: BTreeSet<String> = std::fs::read_dir(Golden::dir())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(committed, golden.seen, "golden files and samples differ");
}

fn sfu_messages(golden: &mut Golden) {
    golden.request(&OpenRoom { room: room(), kind: RoomKind::Echo }, &Done {});
    golden.request(
        &JoinPeer { room: room(), leg: leg(), offer_sdp: "v=0\r\n".into(), emergency: false },
        &PeerJoined { answer_sdp: "v=0\r\n".into(), slot_mids: vec!["1".into()], announcer_mid: Some("5".into()) },
    );
    golden.request(&OpenLink { room: room(), leg: leg(), emergency: false }, &link_offer());
    let for_help = JoinPeer { room: room(), leg: leg(), offer_sdp: "v=0\r\n".into(), emergency: true };
    golden.check("sfu.join_peer.emergency", &for_help);
    golden.check("sfu.open_link.emergency", &OpenLink { room: room(), leg: leg(), emergency: true });
    golden.request(&ConnectLink { room: room(), leg: leg(), answer: link_answer() }, &Done {});
    golden.request(&RemoveLeg { room: room(), leg: leg() }, &Done {});
    golden.request(&CloseRoom { room: room() }, &Done {});
    golden.request(&MuteLeg { room: room(), leg: leg(), muted: true }, &Done {});
    golden.request(&HoldLeg { room: room(), leg: leg(), held: true }, &Done {});
    let open_tap = OpenTap {
        room: room(),
        recording: recording(),
        notice: PromptName { name: "recorded".into(), language: "en".into() },
        beep: BeepPlan::default(),
        recorder_fingerprint: "cd".repeat(32),
    };
    golden.request(&open_tap, &tap_offer());
    golden.request(&CloseTap { room: room(), recording: recording() }, &Done {});
    let leg_row = RoomLegRow { leg: leg(), transport: LegTransport::Link, connected: true, muted: false, held: false };
    let room_row = RoomRow {
        room: room(),
        tenant: tenant(),
        call: call(),
        epoch: Some(epoch()),
        kind: RoomKind::Conversation,
        opened_ms: UnixMs(1_790_000_000_000),
        legs: vec![leg_row],
        taps: vec![recording()],
    };
    golden.request(&SfuInventoryRequest {}, &SfuInventory { rooms: vec![room_row] });
}

fn gateway_messages(golden: &mut Golden) {
    let dial = DialTelephone {
        leg: leg(),
        trunk: trunk(),
        to: Destination::Number(number()),
        caller_id: Some(number()),
        ring_timeout_ms: 30_000,
        max_duration_s: 14_400,
        link: link_offer(),
    };
    golden.request(&dial, &TelephoneDialled { link: link_answer(), sip_call_id: "x@y".into() });
    golden.request(&RingTelephone { leg: leg() }, &Done {});
    let answer = AnswerTelephone { leg: leg(), link: link_offer(), max_duration_s: 14_400 };
    golden.request(&answer, &TelephoneAnswered { link: link_answer() });
    golden.request(&HangUpTelephone { leg: leg(), cause: HangupCause::Busy }, &Done {});
    golden.request(&SendDigits { leg: leg(), digits: "12#".into(), duration_ms: 100 }, &Done {});
    golden.request(&HoldTelephone { leg: leg(), held: false }, &Done {});
    let row = TelephoneLegRow {
        leg: leg(),
        call: call(),
        tenant: tenant(),
        epoch: Some(epoch()),
        trunk: trunk(),
        outbound: true,
        number: Some(Destination::Emergency("112".into())),
        state: TelephoneState::Talking,
        since_ms: UnixMs(1_790_000_000_000),
        sip_call_id: "x@y".into(),
    };
    golden.request(&GatewayInventoryRequest {}, &GatewayInventory { legs: vec![row], trunks: vec![trunk_state()] });
}

fn recorder_and_control_messages(golden: &mut Golden) {
    let (recording, caller_legs) = (recording(), vec![leg()]);
    let start = StartRecording { recording: recording.clone(), tap: tap_offer(), caller_legs, answered_ms: UnixMs(1) };
    golden.request(&start, &Done {});
    golden.request(&StopRecording { recording: recording.clone() }, &Done {});
    golden.request(
        &GrantFile { recording: recording.clone(), file: RecordingFile::Flac },
        &FileGrant { url: Secret::new("http://127.0.0.1:7891/f/t"), fingerprint: None, expires_ms: UnixMs(2) },
    );
    let state = RecordingState::Recording;
    let row = RecordingRow { recording, call: call(), tenant: tenant(), epoch: None, state, segment: 2 };
    golden.request(&RecorderInventoryRequest {}, &RecorderInventory { recordings: vec![row] });
    let incoming = RouteIncoming {
        gateway: NodeId::parse("sip-1").unwrap(),
        trunk: trunk(),
        tenant: tenant(),
        to: number(),
        from: Some(number()),
        from_name: Some("Ada".into()),
        sip_call_id: "x@y".into(),
    };
    golden.request(&incoming, &IncomingRoute::Accept { call: call(), leg: leg() });
    golden.check("control.route_incoming.reply.reject", &IncomingRoute::Reject { cause: HangupCause::NotFound });
}

fn turn_messages(golden: &mut Golden) {
    let user = "0198c1f2-0000-7000-8000-000000000004";
    let session = TurnSession {
        user: format!("1790000600:{user}"),
        client: "203.0.113.7:50000".parse().unwrap(),
        transport: TurnTransport::Stream,
        relayed: vec!["198.51.100.1:49152".parse().unwrap()],
        began_ms: UnixMs(1_790_000_000_000),
        up: TurnCarried { packets: 3, bytes: 516 },
        down: TurnCarried { packets: 2, bytes: 344 },
    };
    let list = ListTurnSessions { user: Some(user.into()) };
    golden.request(&list, &TurnSessions { sessions: vec![session], total: 1, incomplete: false });
    let some = TurnSessions { sessions: Vec::new(), total: 0, incomplete: true };
    golden.check("turn.list_sessions.reply.incomplete", &some);
    let revoke = RevokeTurnUser { user: user.into(), credentials_until_ms: UnixMs(1_790_000_600_000) };
    golden.request(&revoke, &TurnRevoked { ended: 1 });
    golden.request(&RevokeTurnUsers { users: vec![revoke] }, &TurnRevoked { ended: 2 });
}

fn events(golden: &mut Golden) {
    let srtp_profile = "AEAD_AES_256_GCM".into();
    golden.event(&Event::PeerConnected(PeerConnected { room: room(), leg: leg(), srtp_profile }));
    golden.event(&Event::SlotChanged(SlotChanged { room: room(), listener: leg(), slot: 1, speaker: Some(leg()) }));
    golden.event(&Event::LegStats(LegStats {
        leg: leg(),
        received_packets: 100,
        lost_packets: 1,
        jitter_ms: 2.5,
        round_trip_ms: Some(10.0),
        sent_packets: 99,
    }));
    golden.event(&Event::Clock(clock_pair()));
    golden.event(&Event::LegRinging(LegProgress { leg: leg() }));
    golden.event(&Event::LegEarlyMedia(LegProgress { leg: leg() }));
    golden.event(&Event::DigitReceived(DigitReceived { leg: leg(), digit: '#', duration_ms: 100 }));
    golden.event(&Event::TrunkChanged(TrunkChanged {
        node: NodeId::parse("sip-1").unwrap(),
        trunk: trunk(),
        up: false,
        reason: "no reply to OPTIONS".into(),
    }));
    golden.event(&Event::FactStored(Box::new(record(Fact::LegAnswered { leg: leg() }))));
}

fn facts(golden: &mut Golden) {
    let (recording, leg, kind, played_ms) = (recording(), leg(), ConsentKind::Beep, UnixMs(5));
    golden.fact(Fact::LegAnswered { leg: leg.clone() });
    golden.fact(Fact::LegEnded { leg: leg.clone(), cause: HangupCause::Busy, sip_status: Some(486) });
    golden.fact(Fact::TapClosed { recording: recording.clone(), reason: TapCloseReason::AnnouncerFailed });
    golden.fact(Fact::AnnouncementReceived { recording: recording.clone(), leg: leg.clone(), kind, played_ms });
    golden.fact(Fact::AnnouncementUnconfirmed { recording: recording.clone(), leg, kind, played_ms });
    golden.fact(Fact::SegmentStarted { recording: recording.clone(), segment: 1 });
    golden.fact(Fact::ConsentPlayed { recording: recording.clone(), segment: 1, kind: ConsentKind::Notice, played_ms });
    golden.fact(Fact::RecordingFinished {
        recording: recording.clone(),
        files: vec![FileRow { name: "dual.flac".into(), bytes: 10, sha256: "ef".repeat(32) }],
        segments: vec![SegmentRow { segment: 1, started_ms: UnixMs(1), ended_ms: UnixMs(9), gap_ms: 0 }],
        duration_ms: 8,
    });
    golden.fact(Fact::RecordingFailed { recording, reason: "no space".into() });
}

fn surroundings(golden: &mut Golden) {
    golden.request(&StoreFact { record: record(Fact::LegAnswered { leg: leg() }) }, &FactReceipt::Stored);
    golden.check(
        "node_row",
        &NodeRow {
            node: NodeId::parse("sfu-1").unwrap(),
            kind: DaemonKind::Sfu,
            boot: BootId::parse("boot-1").unwrap(),
            version: "0.1.0".into(),
            started_ms: UnixMs(1),
            state: NodeState::Draining,
            load: 1,
            capacity: 100,
            media_addresses: vec!["127.0.0.1:7882".parse().unwrap()],
            certificate_fingerprint: Some("ab".repeat(32)),
            trunks: vec![trunk_state()],
        },
    );
    let body = serde_json::value::RawValue::from_string("{}".into()).unwrap();
    let envelope = Envelope {
        id: MessageId::parse("m-1").unwrap(),
        tenant: Some(tenant()),
        call: Some(call()),
        epoch: Some(epoch()),
        sent_ms: UnixMs(1),
        deadline_ms: UnixMs(2),
        body,
    };
    golden.check("envelope", &envelope);
    let refused = RequestError::new(ErrorCode::StaleEpoch, "an older epoch");
    golden.check("reply_envelope.error", &ReplyEnvelope::Error(refused));
}
