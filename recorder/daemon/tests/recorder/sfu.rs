//! A fake SFU: voices written into a Tap under a media clock of its own, as fast as they are made.
use crate::rig::{context, leg, recording};
use offhook_contract::fact::ConsentKind;
use offhook_contract::sfu::TapOffer;
use offhook_contract::{BootId, CodecName, RoomId, UnixMs};
use offhook_link::{
    ClosedReason, Identity, Packet, Party, TapForm, TapHost, TapHub, TapLimits, TapSubject, TapWriter, TrackId,
};
use offhook_media::{OpusEncoder, g711, tone};

pub const SECOND: u64 = 1_000_000_000;
pub const FRAME: u64 = 20_000_000;
/// Media time at which every Tap here is opened.
pub const ORIGIN: u64 = 7 * SECOND;
pub const WALL: UnixMs = UnixMs(1_795_219_201_000);

pub async fn hub(form: &TapForm) -> TapHub {
    // Minutes of sound are written at once: the ring and the log take them all.
    let limits = TapLimits { ring_bytes: 64 << 20, history_bytes: 64 << 20, ..TapLimits::default() };
    let identity = Identity::generate().unwrap();
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    form.host(TapHost { listen, advertised: Vec::new(), identity, limits }).await.unwrap()
}

pub struct Tap {
    pub writer: TapWriter,
    pub offer: TapOffer,
}

pub fn open(hub: &TapHub, name: &str, recorder: &str) -> Tap {
    let context = context();
    let call = context.call.unwrap();
    let subject = TapSubject {
        recording: recording(name),
        room: RoomId::from(&call),
        call,
        tenant: context.tenant.unwrap(),
        clock: BootId::parse("sfu-boot").unwrap(),
        recorder: recorder.parse().unwrap(),
    };
    let opened = hub.open(subject, ORIGIN, WALL).unwrap();
    Tap { writer: opened.writer, offer: opened.offer }
}

/// One track that sounds a tone.
pub struct Voice {
    pub track: TrackId,
    codec: CodecName,
    hz: f32,
    encoder: Option<OpusEncoder>,
    sequence: u16,
    timestamp: u32,
    phase: usize,
    sound: Vec<i16>,
}

impl Voice {
    pub fn leg(tap: &mut Tap, track: u16, name: &str, codec: CodecName, hz: f32) -> Self {
        tap.writer.track(TrackId(track), &Party::Leg(leg(name)), ORIGIN);
        Self::new(track, codec, hz)
    }

    pub fn announcer(tap: &mut Tap, track: u16, codec: CodecName) -> Self {
        tap.writer.track(TrackId(track), &Party::Announcer, ORIGIN);
        Self::new(track, codec, 1_400.0)
    }

    fn new(track: u16, codec: CodecName, hz: f32) -> Self {
        let rate = codec.clock_rate_hz();
        let encoder = (codec == CodecName::Opus).then(|| OpusEncoder::new(48_000, 5, 32_000).unwrap());
        // Whole seconds of a whole frequency repeat without a seam.
        let sound = tone::sine(hz, -14.0, rate, 1_000);
        Self { track: TrackId(track), codec, hz, encoder, sequence: 65_000, timestamp: 0xffff_8000, phase: 0, sound }
    }

    /// The same track goes on in another codec, as a browser's payload type may change.
    pub fn switch(&mut self, codec: CodecName) {
        let fresh = Self::new(self.track.0, codec, self.hz);
        let timestamp = self.timestamp;
        *self = Self { sequence: self.sequence, timestamp, ..fresh };
    }

    fn next_payload(&mut self) -> Vec<u8> {
        let samples = usize::try_from(self.codec.clock_rate_hz()).unwrap() / 50;
        let frame: Vec<i16> = self.sound.iter().cycle().skip(self.phase).take(samples).copied().collect();
        self.phase = (self.phase + samples) % self.sound.len();
        match (&mut self.encoder, self.codec) {
            (Some(encoder), _) => {
                let mut bytes = vec![0; 1_276];
                let length = encoder.encode(&frame, &mut bytes).unwrap();
                bytes.truncate(length);
                bytes
            }
            (None, CodecName::Pcma) => frame.iter().map(|sample| g711::linear_to_pcma(*sample)).collect(),
            (None, _) => frame.iter().map(|sample| g711::linear_to_pcmu(*sample)).collect(),
        }
    }

    /// Twenty milliseconds of it, which arrive at `at` (since the Tap was opened).
    pub fn send(&mut self, tap: &mut Tap, at: u64) {
        let payload = self.next_payload();
        let packet = Packet {
            track: self.track,
            media_ns: ORIGIN + at,
            codec: self.codec,
            payload_type: self.codec.link_payload_type(),
            marker: false,
            sequence: self.sequence,
            timestamp: self.timestamp,
            payload: &payload,
        };
        assert!(tap.writer.packet(&packet), "the fake SFU's ring is full");
        self.skip_lost();
    }

    /// A packet that never arrives.
    pub fn skip_lost(&mut self) {
        self.sequence = self.sequence.wrapping_add(1);
        self.pass(1);
    }

    /// Frames in which nothing is sent: the clock runs, the sequence does not.
    pub fn pass(&mut self, frames: u32) {
        self.timestamp = self.timestamp.wrapping_add(frames * (self.codec.clock_rate_hz() / 50));
    }
}

/// A beep as the SFU plays it: ten frames, announced before and after.
pub fn beep(tap: &mut Tap, announcer: &mut Voice, at: u64) {
    let now = (at / FRAME) as u32;
    announcer.timestamp = now.wrapping_mul(announcer.codec.clock_rate_hz() / 50);
    tap.writer.announcement_started(ConsentKind::Beep, ORIGIN + at);
    for frame in 0..10 {
        announcer.send(tap, at + frame * FRAME);
    }
    tap.writer.announcement_ended(ConsentKind::Beep, ORIGIN + at + 10 * FRAME);
}

pub fn close(tap: Tap, at: u64) {
    tap.writer.close(ClosedReason::Requested, ORIGIN + at);
}
