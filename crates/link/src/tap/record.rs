//! The records of a Tap as bytes. A record is `kind: u8, number: u64, body`, integers big-endian, texts with a
//! one-byte length. Transports put a four-byte length in front. Everything read is bounds-checked.
use offhook_contract::fact::{ConsentKind, TapCloseReason};
use offhook_contract::{BootId, CallId, CodecName, LegId, RecordingId, RoomId, TenantId, UnixMs};
use std::sync::Arc;

/// The version in [`Hello`] and in the dialler's greeting.
pub const TAP_VERSION: u8 = 1;
/// No audio packet that came over an Internet path is longer.
pub const MAX_PAYLOAD_BYTES: usize = 1_500;
/// The longest record: a packet's fixed part and its payload.
pub const MAX_RECORD_BYTES: usize = 64 + MAX_PAYLOAD_BYTES;

/// A track inside one Tap; given by the SFU, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u16);

/// Whose voice a track carries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Party {
    Leg(LegId),
    /// Notices, beeps and prompts.
    Announcer,
}

/// The first record: what is recorded, and under which clock the Tap's media times stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub recording: RecordingId,
    pub room: RoomId,
    pub call: CallId,
    pub tenant: TenantId,
    pub clock: BootId,
    pub media_ns: u64,
    pub wall: UnixMs,
}

/// One RTP packet as it came in, after SRTP and repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    pub track: TrackId,
    /// Arrival, nanoseconds of the Tap's clock.
    pub media_ns: u64,
    pub codec: CodecName,
    pub payload_type: u8,
    pub marker: bool,
    pub sequence: u16,
    pub timestamp: u32,
    pub payload: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedReason {
    /// Call-control asked for it, or the room closed.
    Requested,
    /// A notice or beep could not be played to a party.
    AnnouncerFailed,
    /// No recorder resumed in time.
    RecorderGone,
    /// The writer went away without a word (its media thread or its process ended).
    Abandoned,
}

impl From<TapCloseReason> for ClosedReason {
    fn from(reason: TapCloseReason) -> Self {
        match reason {
            TapCloseReason::Requested => Self::Requested,
            TapCloseReason::AnnouncerFailed => Self::AnnouncerFailed,
            TapCloseReason::RecorderGone => Self::RecorderGone,
        }
    }
}

/// Times are nanoseconds of the clock named in [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TapRecord<'a> {
    Hello(Hello),
    Track {
        track: TrackId,
        party: Party,
        at_ns: u64,
    },
    Packet(Packet<'a>),
    AnnouncementStarted {
        kind: ConsentKind,
        at_ns: u64,
    },
    AnnouncementEnded {
        kind: ConsentKind,
        at_ns: u64,
    },
    ClockPair {
        media_ns: u64,
        wall: UnixMs,
    },
    /// Records `from..=to` could not be kept; this record's own number is `to`. Among them were `packets` packets,
    /// which had come in between `first_ns` and `last_ns`.
    Gap {
        from: u64,
        to: u64,
        packets: u64,
        first_ns: u64,
        last_ns: u64,
    },
    TrackEnded {
        track: TrackId,
        at_ns: u64,
    },
    Closed {
        reason: ClosedReason,
        at_ns: u64,
    },
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the record ends inside its fields")]
    Truncated,
    #[error("{0} bytes follow the record's last field")]
    TrailingBytes(usize),
    #[error("a record of {0} bytes; the longest has {MAX_RECORD_BYTES}")]
    TooLong(usize),
    #[error("unknown record kind {0}")]
    UnknownKind(u8),
    #[error("Tap version {0}; this side speaks {TAP_VERSION}")]
    Version(u8),
    #[error("{field} has the unknown value {value}")]
    UnknownValue { field: &'static str, value: u8 },
    #[error("{0} is not an id")]
    InvalidId(&'static str),
    #[error("a gap from {from} to {to}")]
    InvalidGap { from: u64, to: u64 },
    #[error("record {got} came where a number above {after} was due")]
    OutOfOrder { after: u64, got: u64 },
}

const KIND_HELLO: u8 = 1;
const KIND_TRACK: u8 = 2;
pub(super) const KIND_PACKET: u8 = 3;
const KIND_ANNOUNCEMENT_STARTED: u8 = 4;
const KIND_ANNOUNCEMENT_ENDED: u8 = 5;
const KIND_CLOCK_PAIR: u8 = 6;
pub(super) const KIND_GAP: u8 = 7;
const KIND_TRACK_ENDED: u8 = 8;
const KIND_CLOSED: u8 = 9;

impl TapRecord<'_> {
    /// Appends the record under `number` to `out`. Allocates only if `out` lacks room.
    pub fn encode(&self, number: u64, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => encode_hello(hello, number, out),
            Self::Track { track, party, at_ns } => encode_track(number, *track, party, *at_ns, out),
            Self::Packet(packet) => encode_packet(packet, number, out),
            Self::AnnouncementStarted { kind, at_ns } => {
                head(KIND_ANNOUNCEMENT_STARTED, number, out);
                out.push(consent_code(*kind));
                put_u64(*at_ns, out);
            }
            Self::AnnouncementEnded { kind, at_ns } => {
                head(KIND_ANNOUNCEMENT_ENDED, number, out);
                out.push(consent_code(*kind));
                put_u64(*at_ns, out);
            }
            Self::ClockPair { media_ns, wall } => {
                head(KIND_CLOCK_PAIR, number, out);
                put_u64(*media_ns, out);
                put_u64(wall.0, out);
            }
            Self::Gap { from, to, packets, first_ns, last_ns } => {
                head(KIND_GAP, number, out);
                for value in [from, to, packets, first_ns, last_ns] {
                    put_u64(*value, out);
                }
            }
            Self::TrackEnded { track, at_ns } => {
                head(KIND_TRACK_ENDED, number, out);
                out.extend_from_slice(&track.0.to_be_bytes());
                put_u64(*at_ns, out);
            }
            Self::Closed { reason, at_ns } => {
                head(KIND_CLOSED, number, out);
                out.push(closed_code(*reason));
                put_u64(*at_ns, out);
            }
        }
    }
}

fn head(kind: u8, number: u64, out: &mut Vec<u8>) {
    out.push(kind);
    put_u64(number, out);
}

fn put_u64(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Ids have at most 64 characters.
fn put_text(text: &str, out: &mut Vec<u8>) {
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text.as_bytes());
}

fn encode_hello(hello: &Hello, number: u64, out: &mut Vec<u8>) {
    head(KIND_HELLO, number, out);
    out.push(TAP_VERSION);
    put_text(hello.recording.as_str(), out);
    put_text(hello.room.as_str(), out);
    put_text(hello.call.as_str(), out);
    put_text(hello.tenant.as_str(), out);
    put_text(hello.clock.as_str(), out);
    put_u64(hello.media_ns, out);
    put_u64(hello.wall.0, out);
}

pub(super) fn encode_track(number: u64, track: TrackId, party: &Party, at_ns: u64, out: &mut Vec<u8>) {
    head(KIND_TRACK, number, out);
    out.extend_from_slice(&track.0.to_be_bytes());
    match party {
        Party::Announcer => out.push(0),
        Party::Leg(leg) => {
            out.push(1);
            put_text(leg.as_str(), out);
        }
    }
    put_u64(at_ns, out);
}

/// A payload over [`MAX_PAYLOAD_BYTES`] is the caller's to refuse; here it is cut.
pub(super) fn encode_packet(packet: &Packet<'_>, number: u64, out: &mut Vec<u8>) {
    head(KIND_PACKET, number, out);
    out.extend_from_slice(&packet.track.0.to_be_bytes());
    put_u64(packet.media_ns, out);
    out.push(codec_code(packet.codec));
    out.push((packet.payload_type & 0x7f) | if packet.marker { 0x80 } else { 0 });
    out.extend_from_slice(&packet.sequence.to_be_bytes());
    out.extend_from_slice(&packet.timestamp.to_be_bytes());
    let payload = packet.payload.get(..MAX_PAYLOAD_BYTES).unwrap_or(packet.payload);
    out.extend_from_slice(payload);
}

const fn consent_code(kind: ConsentKind) -> u8 {
    match kind {
        ConsentKind::Notice => 1,
        ConsentKind::Beep => 2,
    }
}

const fn codec_code(codec: CodecName) -> u8 {
    match codec {
        CodecName::Opus => 1,
        CodecName::Pcmu => 2,
        CodecName::Pcma => 3,
    }
}

pub(super) const fn closed_code(reason: ClosedReason) -> u8 {
    match reason {
        ClosedReason::Requested => 1,
        ClosedReason::AnnouncerFailed => 2,
        ClosedReason::RecorderGone => 3,
        ClosedReason::Abandoned => 4,
    }
}

pub(super) const fn closed_from(code: u8) -> Option<ClosedReason> {
    match code {
        1 => Some(ClosedReason::Requested),
        2 => Some(ClosedReason::AnnouncerFailed),
        3 => Some(ClosedReason::RecorderGone),
        4 => Some(ClosedReason::Abandoned),
        _ => None,
    }
}

/// A record's number and kind without its body: for moving records that stay encoded.
pub(super) fn peek(bytes: &[u8]) -> Option<(u64, u8)> {
    let kind = *bytes.first()?;
    let number = bytes.get(1..9)?.try_into().ok()?;
    Some((u64::from_be_bytes(number), kind))
}

/// A packet record's media time.
pub(super) fn peek_packet_ns(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(11..19)?.try_into().ok()?))
}

pub(super) const fn is_kept(kind: u8) -> bool {
    matches!(kind, KIND_HELLO | KIND_TRACK)
}

pub(super) const fn is_closed(kind: u8) -> bool {
    kind == KIND_CLOSED
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(RecordError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        self.take(N)?.try_into().map_err(|_| RecordError::Truncated)
    }
    fn u8(&mut self) -> Result<u8, RecordError> {
        Ok(u8::from_be_bytes(self.array()?))
    }
    fn u16(&mut self) -> Result<u16, RecordError> {
        Ok(u16::from_be_bytes(self.array()?))
    }
    fn u32(&mut self) -> Result<u32, RecordError> {
        Ok(u32::from_be_bytes(self.array()?))
    }
    fn u64(&mut self) -> Result<u64, RecordError> {
        Ok(u64::from_be_bytes(self.array()?))
    }
    fn id<T: TryFrom<String>>(&mut self, field: &'static str) -> Result<T, RecordError> {
        let length = self.u8()?;
        let text = std::str::from_utf8(self.take(usize::from(length))?).map_err(|_| RecordError::InvalidId(field))?;
        T::try_from(text.to_owned()).map_err(|_| RecordError::InvalidId(field))
    }
    fn consent(&mut self) -> Result<ConsentKind, RecordError> {
        match self.u8()? {
            1 => Ok(ConsentKind::Notice),
            2 => Ok(ConsentKind::Beep),
            value => Err(RecordError::UnknownValue { field: "announcement kind", value }),
        }
    }
    fn codec(&mut self) -> Result<CodecName, RecordError> {
        match self.u8()? {
            1 => Ok(CodecName::Opus),
            2 => Ok(CodecName::Pcmu),
            3 => Ok(CodecName::Pcma),
            value => Err(RecordError::UnknownValue { field: "codec", value }),
        }
    }
    fn party(&mut self) -> Result<Party, RecordError> {
        match self.u8()? {
            0 => Ok(Party::Announcer),
            1 => Ok(Party::Leg(self.id("leg")?)),
            value => Err(RecordError::UnknownValue { field: "party", value }),
        }
    }
    fn closed(&mut self) -> Result<ClosedReason, RecordError> {
        let value = self.u8()?;
        closed_from(value).ok_or(RecordError::UnknownValue { field: "close reason", value })
    }
}

impl<'a> TapRecord<'a> {
    /// Reads exactly one record: its number and itself, the payload borrowed.
    pub fn decode(bytes: &'a [u8]) -> Result<(u64, Self), RecordError> {
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLong(bytes.len()));
        }
        let mut fields = Fields(bytes);
        let kind = fields.u8()?;
        let number = fields.u64()?;
        let record = decode_body(kind, &mut fields)?;
        if let Self::Gap { from, to, .. } = record
            && (from > to || to != number || from == 0)
        {
            return Err(RecordError::InvalidGap { from, to });
        }
        match fields.0.len() {
            0 => Ok((number, record)),
            left => Err(RecordError::TrailingBytes(left)),
        }
    }
}

fn decode_body<'a>(kind: u8, fields: &mut Fields<'a>) -> Result<TapRecord<'a>, RecordError> {
    Ok(match kind {
        KIND_HELLO => TapRecord::Hello(decode_hello(fields)?),
        KIND_TRACK => TapRecord::Track { track: TrackId(fields.u16()?), party: fields.party()?, at_ns: fields.u64()? },
        KIND_PACKET => TapRecord::Packet(decode_packet(fields)?),
        KIND_ANNOUNCEMENT_STARTED => TapRecord::AnnouncementStarted { kind: fields.consent()?, at_ns: fields.u64()? },
        KIND_ANNOUNCEMENT_ENDED => TapRecord::AnnouncementEnded { kind: fields.consent()?, at_ns: fields.u64()? },
        KIND_CLOCK_PAIR => TapRecord::ClockPair { media_ns: fields.u64()?, wall: UnixMs(fields.u64()?) },
        KIND_GAP => TapRecord::Gap {
            from: fields.u64()?,
            to: fields.u64()?,
            packets: fields.u64()?,
            first_ns: fields.u64()?,
            last_ns: fields.u64()?,
        },
        KIND_TRACK_ENDED => TapRecord::TrackEnded { track: TrackId(fields.u16()?), at_ns: fields.u64()? },
        KIND_CLOSED => TapRecord::Closed { reason: fields.closed()?, at_ns: fields.u64()? },
        unknown => return Err(RecordError::UnknownKind(unknown)),
    })
}

fn decode_hello(fields: &mut Fields<'_>) -> Result<Hello, RecordError> {
    match fields.u8()? {
        TAP_VERSION => Ok(Hello {
            recording: fields.id("recording")?,
            room: fields.id("room")?,
            call: fields.id("call")?,
            tenant: fields.id("tenant")?,
            clock: fields.id("clock")?,
            media_ns: fields.u64()?,
            wall: UnixMs(fields.u64()?),
        }),
        other => Err(RecordError::Version(other)),
    }
}

fn decode_packet<'a>(fields: &mut Fields<'a>) -> Result<Packet<'a>, RecordError> {
    let track = TrackId(fields.u16()?);
    let media_ns = fields.u64()?;
    let codec = fields.codec()?;
    let marked = fields.u8()?;
    let sequence = fields.u16()?;
    let timestamp = fields.u32()?;
    let payload = fields.take(fields.0.len())?;
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(RecordError::TooLong(payload.len()));
    }
    Ok(Packet {
        track,
        media_ns,
        codec,
        payload_type: marked & 0x7f,
        marker: marked & 0x80 != 0,
        sequence,
        timestamp,
        payload,
    })
}

/// A record as a reader receives it: its number checked to rise, its bytes shared, its body parsed on demand.
#[derive(Debug, Clone)]
pub struct TapFrame {
    number: u64,
    bytes: Arc<[u8]>,
}

impl TapFrame {
    /// Refuses bytes that are no record or whose number does not rise above `after`.
    pub fn check(bytes: Arc<[u8]>, after: u64) -> Result<Self, RecordError> {
        let (number, _) = TapRecord::decode(&bytes)?;
        if number <= after {
            return Err(RecordError::OutOfOrder { after, got: number });
        }
        Ok(Self { number, bytes })
    }
    pub fn number(&self) -> u64 {
        self.number
    }
    pub fn record(&self) -> Result<TapRecord<'_>, RecordError> {
        TapRecord::decode(&self.bytes).map(|(_, record)| record)
    }
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_kind() -> Vec<TapRecord<'static>> {
        let leg = LegId::parse("leg-1").unwrap();
        vec![
            TapRecord::Hello(Hello {
                recording: RecordingId::parse("r".repeat(64)).unwrap(),
                room: RoomId::parse("m".repeat(64)).unwrap(),
                call: CallId::parse("c".repeat(64)).unwrap(),
                tenant: TenantId::parse("t".repeat(64)).unwrap(),
                clock: BootId::parse("b".repeat(64)).unwrap(),
                media_ns: 5,
                wall: UnixMs(7),
            }),
            TapRecord::Track { track: TrackId(1), party: Party::Leg(leg), at_ns: 3 },
            TapRecord::Track { track: TrackId(2), party: Party::Announcer, at_ns: 3 },
            TapRecord::Packet(Packet {
                track: TrackId(1),
                media_ns: u64::MAX,
                codec: CodecName::Pcma,
                payload_type: 8,
                marker: true,
                sequence: 65_535,
                timestamp: 0xdead_beef,
                payload: &[0x55; MAX_PAYLOAD_BYTES],
            }),
            TapRecord::AnnouncementStarted { kind: ConsentKind::Notice, at_ns: 1 },
            TapRecord::AnnouncementEnded { kind: ConsentKind::Beep, at_ns: 2 },
            TapRecord::ClockPair { media_ns: 8, wall: UnixMs(9) },
            TapRecord::Gap { from: 3, to: 42, packets: 39, first_ns: 4, last_ns: 5 },
            TapRecord::TrackEnded { track: TrackId(9), at_ns: 6 },
            TapRecord::Closed { reason: ClosedReason::AnnouncerFailed, at_ns: 7 },
        ]
    }

    #[test]
    fn every_record_comes_back_as_it_was_written() {
        for record in every_kind() {
            let mut bytes = Vec::new();
            record.encode(42, &mut bytes);
            assert_eq!(TapRecord::decode(&bytes), Ok((42, record)));
        }
    }

    #[test]
    fn a_record_cut_anywhere_is_refused_by_name_or_is_a_shorter_packet() {
        for record in every_kind() {
            let mut bytes = Vec::new();
            record.encode(42, &mut bytes);
            for length in 0..bytes.len() {
                match TapRecord::decode(&bytes[..length]) {
                    Err(RecordError::Truncated) => {}
                    Ok((_, TapRecord::Packet(packet))) => assert!(packet.payload.len() < MAX_PAYLOAD_BYTES),
                    other => panic!("{length} of {}: {other:?}", bytes.len()),
                }
            }
            if !matches!(record, TapRecord::Packet(_)) {
                bytes.push(0);
                assert_eq!(TapRecord::decode(&bytes), Err(RecordError::TrailingBytes(1)));
            }
        }
    }

    #[test]
    fn hostile_bytes_get_a_named_error_and_never_a_panic() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for record in every_kind() {
            let mut whole = Vec::new();
            record.encode(42, &mut whole);
            for _ in 0..2_000 {
                let mut bytes = whole.clone();
                for _ in 0..=random() % 4 {
                    let at = usize::try_from(random()).unwrap() % bytes.len();
                    bytes[at] = random().to_le_bytes()[0];
                }
                bytes.truncate(1 + usize::try_from(random()).unwrap() % bytes.len());
                if let Ok((number, again)) = TapRecord::decode(&bytes) {
                    let mut out = Vec::new();
                    again.encode(number, &mut out);
                    assert_eq!(out, bytes, "what is accepted has one form");
                }
            }
        }
        assert_eq!(TapRecord::decode(&[3; 5_000]), Err(RecordError::TooLong(5_000)));
        assert_eq!(TapRecord::decode(&[99, 0, 0, 0, 0, 0, 0, 0, 1]), Err(RecordError::UnknownKind(99)));
    }

    #[test]
    fn a_gap_that_contradicts_its_number_is_refused() {
        let mut bytes = Vec::new();
        TapRecord::Gap { from: 9, to: 8, packets: 1, first_ns: 0, last_ns: 0 }.encode(8, &mut bytes);
        assert_eq!(TapRecord::decode(&bytes), Err(RecordError::InvalidGap { from: 9, to: 8 }));
    }
}
