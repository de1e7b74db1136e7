//! One party's connection: a browser's transport or a Link, what it sends and what it hears.
use crate::command::{LinePlan, LinkPlan, PayloadTypes, PeerPlan};
use crate::dtls::DtlsSession;
use crate::egress::{Egress, Path};
use crate::room::Room;
use crate::slot::{Frame, SlotWriter};
use crate::source::Source;
use crate::time::{MediaNs, PerSecond};
use offhook_contract::audio::LINK_LEVEL_EXTENSION_ID;
use offhook_contract::fact::ConsentKind;
use offhook_contract::{CodecName, LegId, RecordingId, UnixMs};
use offhook_shard::Key;
use offhook_wire_rtp::{Extension, RtpHeader};
use offhook_wire_srtp::{ReceiveContext, SendContext, SrtpKey};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub type LegKey = Key<Leg>;

/// Frames of silence after a speaker has left a slot (DESIGN.md §5).
pub const TRAILING_SILENCE: u8 = 3;
/// Addresses of one browser that have passed a check and may carry its media.
pub const VALIDATED_MAX: usize = 8;
/// Bursts whose arrival is still unconfirmed; one comes every few seconds and is given up after eight.
const RECEIPTS_MAX: usize = 16;

pub struct Leg {
    pub id: Arc<LegId>,
    pub room: Key<Room>,
    pub transport: Transport,
    /// Where its datagrams go; known after the first check, or from the other daemon.
    pub path: Option<Path>,
    /// Present once keys are agreed: media flows.
    pub media: Option<Media>,
    pub source: Source,
    pub ears: Ears,
    pub source_id: u32,
    pub report_ssrc: u32,
    pub muted: bool,
    pub held: bool,
    pub round_trip: Option<Duration>,
    /// RTCP compounds, against floods.
    pub compounds: PerSecond,
}

pub enum Transport {
    Peer(Box<Peer>),
    Link(Box<Link>),
}

pub struct Peer {
    pub ufrag: String,
    pub pwd: String,
    pub remote_fingerprint: [u8; 32],
    pub handshake: Handshake,
    pub dtls: Box<dyn DtlsSession>,
    /// What DTLS waits for, and the leg's entry among the timers.
    pub dtls_due: Option<MediaNs>,
    pub dtls_timer: Option<MediaNs>,
    /// Against floods.
    pub dtls_datagrams: PerSecond,
    pub validated: Vec<SocketAddr>,
    /// Authenticated checks are the browser's consent (RFC 7675 §5.1).
    pub last_check: MediaNs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    Begun,
    /// The certificate told by DTLS is the one announced.
    Matched,
    /// Media has its keys.
    Done,
}

pub struct Link {
    /// Protects what we send; used when the link is connected.
    pub key: SrtpKey,
    pub codecs: Vec<CodecName>,
    pub remote: Option<(SocketAddr, u32)>,
}

pub struct Media {
    pub inbound: ReceiveContext,
    pub outbound: SendContext,
}

/// The lines on which a leg hears others.
pub struct Ears {
    pub payload_types: PayloadTypes,
    pub level_id: Option<u8>,
    /// Links tell who speaks in the CSRC.
    pub names_speaker: bool,
    pub slots: Vec<Slot>,
    pub announcer: Option<AnnouncerLine>,
}

pub struct Slot {
    pub writer: SlotWriter,
    pub speaker: Option<LegKey>,
    /// Frames of silence still to send.
    pub tail: u8,
}

pub struct AnnouncerLine {
    pub writer: SlotWriter,
    pub codec: Option<CodecName>,
    /// The announcements that it hears from their first frame on. A beep interrupts a notice, which then goes on.
    beep: Option<Burst>,
    notice: Option<Burst>,
    /// The next frame of the hold prompt, while it plays.
    pub hold: Option<usize>,
    pub tail: u8,
    pub receipts: VecDeque<Receipt>,
    /// When a report last told of new packets on this line, and on another line of the leg.
    pub heard_at: Option<MediaNs>,
    pub others_heard_at: Option<MediaNs>,
    /// Bursts in a row of which nothing arrived although other lines' packets did.
    pub unheard_bursts: u8,
    /// The recording whose notice it was played and did not hear.
    pub owed_notice: Option<RecordingId>,
}

/// An announcement on its way to one party.
#[derive(Debug, Clone, Copy, Default)]
pub struct Burst {
    /// Frames that could not be sent.
    pub missed: usize,
}

/// A burst that waits for a receiver report covering it.
#[derive(Debug, Clone)]
pub struct Receipt {
    pub recording: RecordingId,
    pub kind: ConsentKind,
    pub last_sequence: u32,
    pub played_ms: UnixMs,
    pub ended: MediaNs,
    pub until: MediaNs,
}

impl Slot {
    fn new(plan: LinePlan) -> Self {
        Self { writer: SlotWriter::new(plan.ssrc, plan.first_sequence, plan.first_timestamp), speaker: None, tail: 0 }
    }
}

impl AnnouncerLine {
    fn new(plan: LinePlan, codec: Option<CodecName>) -> Self {
        Self {
            writer: SlotWriter::new(plan.ssrc, plan.first_sequence, plan.first_timestamp),
            codec,
            beep: None,
            notice: None,
            hold: None,
            tail: 0,
            receipts: VecDeque::with_capacity(RECEIPTS_MAX),
            heard_at: None,
            others_heard_at: None,
            unheard_bursts: 0,
            owed_notice: None,
        }
    }

    pub const fn burst_mut(&mut self, kind: ConsentKind) -> &mut Option<Burst> {
        match kind {
            ConsentKind::Beep => &mut self.beep,
            ConsentKind::Notice => &mut self.notice,
        }
    }

    /// Nothing is announced any more; whether it was in the middle of something.
    pub const fn end_bursts(&mut self) -> bool {
        let (beep, notice) = (self.beep.take(), self.notice.take());
        beep.is_some() || notice.is_some()
    }

    pub fn expect_receipt(&mut self, receipt: Receipt) {
        if self.receipts.len() < RECEIPTS_MAX {
            self.receipts.push_back(receipt);
        }
    }
}

/// A packet for one line of one leg.
pub struct Sending<'a> {
    pub frame: &'a Frame,
    pub level: Option<u8>,
    pub speaker: u32,
    pub payload: &'a [u8],
}

/// Why nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    NotConnected,
    Codec,
    Late,
    Full,
}

impl Leg {
    pub fn peer(
        id: LegId,
        room: Key<Room>,
        plan: PeerPlan,
        dtls: Box<dyn DtlsSession>,
        now: MediaNs,
        serial: u64,
    ) -> Self {
        let first = [CodecName::Opus, CodecName::Pcmu, CodecName::Pcma];
        let codec = first.into_iter().find(|codec| plan.receives.number(*codec).is_some());
        Self {
            id: Arc::new(id),
            room,
            path: None,
            media: None,
            source: Source::new(plan.sends.unwrap_or_default(), plan.sent_level_id, None, serial),
            ears: Ears {
                payload_types: plan.receives,
                level_id: plan.received_level_id,
                names_speaker: false,
                slots: plan.slots.into_iter().map(Slot::new).collect(),
                announcer: plan.announcer.map(|line| AnnouncerLine::new(line, codec)),
            },
            source_id: plan.source_id,
            report_ssrc: plan.report_ssrc,
            muted: false,
            held: false,
            round_trip: None,
            compounds: PerSecond::default(),
            transport: Transport::Peer(Box::new(Peer {
                ufrag: plan.ufrag,
                pwd: plan.pwd,
                remote_fingerprint: plan.remote_fingerprint,
                handshake: Handshake::Begun,
                dtls,
                dtls_due: None,
                dtls_timer: None,
                dtls_datagrams: PerSecond::default(),
                validated: Vec::with_capacity(VALIDATED_MAX),
                last_check: now,
            })),
        }
    }

    pub fn link(id: LegId, room: Key<Room>, plan: LinkPlan, serial: u64) -> Self {
        Self {
            id: Arc::new(id),
            room,
            path: None,
            media: None,
            source: Source::new(PayloadTypes::default(), Some(LINK_LEVEL_EXTENSION_ID), None, serial),
            ears: Ears {
                payload_types: PayloadTypes::on_links(&plan.codecs),
                level_id: Some(LINK_LEVEL_EXTENSION_ID),
                names_speaker: true,
                slots: plan.slots.into_iter().map(Slot::new).collect(),
                announcer: Some(AnnouncerLine::new(plan.announcer, plan.codecs.first().copied())),
            },
            source_id: plan.source_id,
            report_ssrc: plan.report_ssrc,
            muted: false,
            held: false,
            round_trip: None,
            compounds: PerSecond::default(),
            transport: Transport::Link(Box::new(Link { key: plan.key, codecs: plan.codecs, remote: None })),
        }
    }

    pub const fn is_connected(&self) -> bool {
        self.media.is_some() && self.path.is_some()
    }

    /// Whether a notice or beep can be played to it.
    pub fn hears_announcements(&self) -> bool {
        self.ears.announcer.as_ref().is_some_and(|line| line.codec.is_some())
    }

    /// Whether others hear it.
    pub const fn is_audible(&self) -> bool {
        !self.muted && !self.held
    }

    /// Writes one packet on slot `index`.
    pub fn send_on_slot(
        &mut self,
        egress: &mut Egress,
        now: MediaNs,
        flow: u32,
        index: usize,
        packet: &Sending<'_>,
    ) -> Result<(), Unsent> {
        let Self { ears, media, path, .. } = self;
        let (Some(media), Some(path)) = (media, path) else { return Err(Unsent::NotConnected) };
        let slot = ears.slots.get_mut(index).ok_or(Unsent::NotConnected)?;
        let number = ears.payload_types.number(packet.frame.codec).ok_or(Unsent::Codec)?;
        let style = HeaderStyle { level_id: ears.level_id, names_speaker: ears.names_speaker };
        seal(egress, media, *path, flow, now, &mut slot.writer, number, style, packet)
    }

    /// Writes one packet on the Announcer's line.
    pub fn send_on_announcer(
        &mut self,
        egress: &mut Egress,
        now: MediaNs,
        flow: u32,
        packet: &Sending<'_>,
    ) -> Result<(), Unsent> {
        let Self { ears, media, path, .. } = self;
        let (Some(media), Some(path)) = (media, path) else { return Err(Unsent::NotConnected) };
        let line = ears.announcer.as_mut().ok_or(Unsent::NotConnected)?;
        let number = ears.payload_types.number(packet.frame.codec).ok_or(Unsent::Codec)?;
        let style = HeaderStyle { level_id: ears.level_id, names_speaker: false };
        seal(egress, media, *path, flow, now, &mut line.writer, number, style, packet)
    }

    /// The writer whose SSRC this is.
    pub fn writer_mut(&mut self, ssrc: u32) -> Option<&mut SlotWriter> {
        let announcer = self.ears.announcer.as_mut().map(|line| &mut line.writer);
        self.ears.slots.iter_mut().map(|slot| &mut slot.writer).chain(announcer).find(|writer| writer.ssrc() == ssrc)
    }

    pub fn sent_packets(&self) -> u64 {
        let announcer = self.ears.announcer.as_ref().map(|line| &line.writer);
        let slots = self.ears.slots.iter().map(|slot| &slot.writer);
        slots.chain(announcer).map(|writer| u64::from(writer.packets())).sum()
    }
}

#[derive(Clone, Copy)]
struct HeaderStyle {
    level_id: Option<u8>,
    names_speaker: bool,
}

/// Header, payload and seal, written where they will be sent from.
#[allow(clippy::too_many_arguments, reason = "the parts of one packet, borrowed from different owners")]
fn seal(
    egress: &mut Egress,
    media: &mut Media,
    path: Path,
    flow: u32,
    now: MediaNs,
    writer: &mut SlotWriter,
    payload_type: u8,
    style: HeaderStyle,
    packet: &Sending<'_>,
) -> Result<(), Unsent> {
    let (begin, room) = egress.reserve().ok_or(Unsent::Full)?;
    let written = writer.write(now, packet.frame, payload_type).ok_or(Unsent::Late)?;
    let header = write_header(room, &written.header, style, packet).ok_or(Unsent::Full)?;
    let len = header + packet.payload.len();
    room.get_mut(header..len).ok_or(Unsent::Full)?.copy_from_slice(packet.payload);
    let sealed = media.outbound.protect_rtp_with_index(room, len, written.index).map_err(|_| Unsent::Full)?;
    let place = egress.commit(begin, sealed, path, flow);
    writer.remember(written.index, packet.payload.len(), place);
    Ok(())
}

fn write_header(room: &mut [u8], header: &RtpHeader, style: HeaderStyle, packet: &Sending<'_>) -> Option<usize> {
    let csrcs: &[u32] = if style.names_speaker { &[packet.speaker] } else { &[] };
    // The extension is always there once agreed on, so that packets of one length stay of one length.
    match style.level_id {
        Some(id) => {
            let level = [packet.level.unwrap_or(offhook_wire_rtp::AudioLevel::SILENCE.to_byte())];
            header.write_with(room, csrcs, &[Extension { id, data: &level }]).ok()
        }
        None => header.write_with(room, csrcs, &[]).ok(),
    }
}
