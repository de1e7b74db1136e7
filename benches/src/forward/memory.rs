//! The core alone: no sockets, the same crypto.
use super::{PAYLOAD_BYTES, RECEIVERS, payload};
use crate::cpu;
use anyhow::ensure;
use offhook_contract::sfu::RoomKind;
use offhook_contract::{CallId, LegId, RoomId, TenantId, UnixMs};
use offhook_media::{BeepSpec, encode_beep};
use offhook_sfu_core::{
    Command, DtlsEvent, DtlsFailure, DtlsSession, Keys, LinePlan, MediaNs, PayloadTypes, PeerPlan, RoomContext, Shard,
    ShardOptions,
};
use offhook_wire_rtp::RtpHeader;
use offhook_wire_srtp::{Profile, SendContext, SrtpKey};
use offhook_wire_stun::{Class, MessageBuilder, Method, TransactionId};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const PACKETS: u32 = 2_000;

fn key(number: usize) -> SrtpKey {
    let mut bytes = [9; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    SrtpKey::new(Profile::AeadAes256Gcm, &bytes, &[5; 12]).expect("a key of its length")
}

/// Gives its keys at the first datagram.
struct Keyed(Vec<DtlsEvent>);

impl DtlsSession for Keyed {
    fn handle_packet(&mut self, _: MediaNs, datagram: &[u8]) -> Result<(), DtlsFailure> {
        let number = datagram.get(1..3).map_or(0, |b| usize::from(b[0]) << 8 | usize::from(b[1]));
        let keys = Keys { ours: key(number), theirs: key(number) };
        self.0 = vec![DtlsEvent::Keys(Box::new(keys)), DtlsEvent::PeerCertificate([0; 32])];
        Ok(())
    }
    fn handle_timeout(&mut self, _: MediaNs) -> Result<(), DtlsFailure> {
        Ok(())
    }
    fn poll(&mut self, _: &mut [u8]) -> Result<DtlsEvent, DtlsFailure> {
        Ok(self.0.pop().unwrap_or(DtlsEvent::Idle(None)))
    }
}

fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 10_000 + number as u16))
}

fn plan(number: usize) -> PeerPlan {
    let types = PayloadTypes { pcmu: Some(0), ..PayloadTypes::default() };
    let line = LinePlan { ssrc: 1_000 + number as u32, first_sequence: 0, first_timestamp: 0 };
    PeerPlan {
        ufrag: format!("peer{number}"),
        pwd: "0123456789012345678901".into(),
        remote_fingerprint: [0; 32],
        sends: (number == 0).then_some(types),
        sent_level_id: Some(1),
        receives: types,
        received_level_id: Some(1),
        slots: if number == 0 { Vec::new() } else { vec![line] },
        announcer: None,
        report_ssrc: 1,
        source_id: number as u32,
    }
}

fn check(number: usize) -> anyhow::Result<Vec<u8>> {
    let mut buffer = [0; 256];
    let mut request = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, TransactionId([3; 12]));
    request.username(&format!("peer{number}:x")).priority(1).ice_controlling(1).use_candidate();
    let len = request.integrity(b"0123456789012345678901").fingerprint().finish()?;
    Ok(buffer[..len].to_vec())
}

pub fn ns_per_packet() -> anyhow::Result<f64> {
    let hold = Arc::new(encode_beep(&BeepSpec::default())?);
    let mut shard = Shard::new(ShardOptions::new(hold, 1));
    let mut now = MediaNs(1_000_000_000);
    let room = RoomId::parse("forward")?;
    let context = RoomContext { tenant: TenantId::parse("bench")?, call: CallId::parse("forward")?, epoch: None };
    let kind = RoomKind::Conversation;
    shard.handle_command(now, Command::OpenRoom { room: room.clone(), kind, context, opened_ms: UnixMs(0) })?;
    for number in 0..=RECEIVERS {
        let leg = LegId::parse(format!("leg-{number}"))?;
        let (plan, dtls) = (Box::new(plan(number)), Box::new(Keyed(Vec::new())));
        shard.handle_command(now, Command::AddPeer { room: room.clone(), leg, plan, dtls, emergency: false })?;
        shard.handle_input(now, address(number), None, &mut check(number)?);
        shard.handle_input(now, address(number), None, &mut [22, (number >> 8) as u8, number as u8]);
        shard.clear_transmits();
    }
    let mut sender = SendContext::new(&key(0))?;
    let mut packets = Vec::new();
    for number in 0..PACKETS {
        let mut datagram = vec![0; 12 + PAYLOAD_BYTES + 16];
        let (sequence, timestamp) = ((number & 0xffff) as u16, number.wrapping_mul(160));
        RtpHeader { marker: false, payload_type: 0, sequence, timestamp, ssrc: 77 }.write(&mut datagram)?;
        datagram[12..12 + PAYLOAD_BYTES].copy_from_slice(&payload(number));
        sender.protect_rtp(&mut datagram, 12 + PAYLOAD_BYTES)?;
        packets.push(datagram);
    }
    let tid = cpu::own_tid();
    let (warm, measured) = packets.split_at_mut(100);
    let mut feed = |packets: &mut [Vec<u8>]| {
        let mut sent = 0;
        for datagram in packets {
            now = now.after(Duration::from_millis(10));
            shard.handle_input(now, address(0), None, datagram);
            sent += shard.transmits().len();
            shard.clear_transmits();
        }
        sent
    };
    feed(warm);
    let before = cpu::time_of(tid);
    let sent = feed(measured);
    let spent = cpu::time_of(tid) - before;
    ensure!(sent == measured.len() * RECEIVERS, "{sent} packets were forwarded");
    Ok(spent.as_nanos() as f64 / sent as f64)
}
