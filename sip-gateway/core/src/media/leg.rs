//! One telephone leg's media: what is done with each datagram, and what is sent every 20 ms.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use offhook_media::dtmf::DtmfDetector;
use offhook_media::mix::Mixer;
use offhook_media::prompt::EncodedPrompt;
use offhook_media::{Codec, g711};
use offhook_wire_rtp::{RtpPacket, TelephoneEvent};

use super::FRAME;
use super::digits_in::{Digit, DigitReceiver};
use super::digits_out::{DigitSender, DigitsError, Frame};
use super::mouth::Mouth;
use super::reports::{LegReport, LinkReports, Reports};
use super::source::{DropReason, Latch, RemoteMedia};
use super::speaker::{Line, LinkStreams, Speaker};
use super::uplink::Uplink;

const TICK: Duration = Duration::from_millis(20);
/// A thread that was late by more than this leaves a gap in the stream instead of a burst.
const LATE: Duration = Duration::from_millis(100);

/// Random numbers a leg starts with (RFC 3550 §5.1); the caller draws them.
#[derive(Debug, Clone, Copy)]
pub struct LegNumbers {
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
}

#[derive(Debug, Clone)]
pub struct LegMediaConfig {
    pub numbers: LegNumbers,
    /// RTCP's canonical name; opaque, without addresses (RFC 7022).
    pub cname: String,
    /// Wall time at `now` = 0, in ns since 1970.
    pub unix_ns_at_zero: u64,
    /// What a held telephone hears; its content is looped.
    pub hold_prompt: Arc<EncodedPrompt>,
    /// No packet for this long while the telephone should be speaking: the leg has lost its media.
    pub media_timeout: Duration,
}

/// What became of a datagram from the carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrunkInput {
    /// The first so many bytes of the buffer given are a packet for the Link.
    Forward(usize),
    Used,
    Dropped(DropReason),
}

/// Something the signalling side wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaEvent {
    /// The carrier's first packet: from now on there is something to hear.
    FirstPacket,
    Digit(Digit),
    MediaLost,
}

/// A datagram that is ready: so many bytes of the buffer given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    TrunkRtp {
        to: SocketAddr,
        length: usize,
    },
    TrunkRtcp {
        to: SocketAddr,
        length: usize,
    },
    /// For the Link, not yet sealed.
    LinkRtcp {
        length: usize,
    },
}

/// The remote side as the SDP states it, with what was learned on top.
#[derive(Debug)]
struct Remote {
    media: RemoteMedia,
    rtp: Latch,
    rtcp: Latch,
}

/// When the telephone was last heard, and whether that is watched.
#[derive(Debug, Clone, Copy)]
enum Watch {
    /// Before the answer nobody is bound to speak.
    Unanswered,
    /// The carrier's SDP says that nothing will come (hold); it is watched again when another SDP says so.
    Paused,
    Since(Duration),
    Lost,
}

impl Watch {
    /// Of an answered call, from what its SDP says.
    const fn from_sdp(now: Duration, media: RemoteMedia) -> Self {
        if media.receives { Self::Since(now) } else { Self::Paused }
    }
}

#[derive(Debug)]
pub struct LegMedia {
    config: LegMediaConfig,
    remote: Option<Remote>,
    mouth: Mouth,
    reports: Reports,
    digits_in: DigitReceiver,
    /// Listens for tones when the carrier sends no events.
    ear: DtmfDetector,
    digits_out: DigitSender,
    uplink: Option<Uplink>,
    speakers: Vec<Speaker>,
    listener: LinkReports,
    mixer: Mixer,
    held: bool,
    hold_at: usize,
    watch: Watch,
    heard_anything: bool,
    /// When the next frame leaves; nothing before media may flow.
    tick: Option<Duration>,
    closing: bool,
    event: Option<MediaEvent>,
    event_behind: Option<MediaEvent>,
}

impl LegMedia {
    pub fn new(now: Duration, config: LegMediaConfig) -> Self {
        let LegNumbers { ssrc, sequence, timestamp } = config.numbers;
        Self {
            reports: Reports::new(now, config.cname.clone(), config.unix_ns_at_zero),
            config,
            remote: None,
            mouth: Mouth::new(ssrc, sequence, timestamp),
            digits_in: DigitReceiver::default(),
            ear: DtmfDetector::new(super::RATE),
            digits_out: DigitSender::default(),
            uplink: None,
            speakers: Vec::new(),
            listener: LinkReports::new(0),
            mixer: Mixer::new(FRAME),
            held: false,
            hold_at: 0,
            watch: Watch::Unanswered,
            heard_anything: false,
            tick: None,
            closing: false,
            event: None,
            event_behind: None,
        }
    }

    /// An SDP exchange is complete (183, 200, re-INVITE): media flows as it says, from now on.
    pub fn set_remote(&mut self, now: Duration, media: RemoteMedia) {
        match &mut self.remote {
            Some(remote) => {
                remote.rtp.restate(media.rtp);
                remote.rtcp.restate(media.rtcp);
                remote.media = media;
            }
            None => {
                let (rtp, rtcp) = (Latch::new(media.rtp), Latch::new(media.rtcp));
                self.remote = Some(Remote { media, rtp, rtcp });
            }
        }
        self.tick.get_or_insert(now);
        if matches!(self.watch, Watch::Since(_) | Watch::Paused) {
            self.watch = Watch::from_sdp(now, media);
        }
    }

    /// Connects the room's side.
    pub fn set_link(&mut self, link: LinkStreams) {
        let LegNumbers { sequence, timestamp, .. } = self.config.numbers;
        // SRTP counts rollovers from the first packet, so a stream begins low (RFC 3711 §3.3.1).
        self.uplink = Some(Uplink::new(link.ssrc, sequence & 0x3fff, timestamp));
        self.listener = LinkReports::new(link.ssrc);
        self.speakers = link.speakers;
    }

    /// The call is answered: silence from the telephone's side is watched from here on.
    pub fn answered(&mut self, now: Duration) {
        self.watch = self.remote.as_ref().map_or(Watch::Since(now), |remote| Watch::from_sdp(now, remote.media));
    }

    /// A held telephone hears the hold prompt, with the Announcer in its place as it sounds, and the room does not hear it.
    pub fn set_held(&mut self, held: bool) {
        if held && !self.held {
            self.hold_at = 0;
        }
        self.held = held;
    }

    /// Queues keypad digits.
    pub fn send_digits(&mut self, digits: &str, duration_ms: u16) -> Result<(), DigitsError> {
        self.digits_out.queue(digits, duration_ms)
    }

    /// Nothing more is sent but a goodbye.
    pub fn close(&mut self) {
        self.closing = true;
        self.tick = None;
        self.digits_out.clear();
    }

    pub fn report(&self) -> LegReport {
        self.reports.report(self.mouth.packets())
    }

    /// A datagram on the leg's RTP port. A packet for the Link is written into `out`.
    pub fn handle_trunk_rtp(&mut self, now: Duration, from: SocketAddr, datagram: &[u8], out: &mut [u8]) -> TrunkInput {
        let packet = match self.accept(from, datagram) {
            Ok(packet) => packet,
            Err(reason) => return TrunkInput::Dropped(reason),
        };
        self.alive(now);
        match self.payload_of(&packet) {
            Some(payload) => self.accepted(now, from, &packet, payload, out),
            None => TrunkInput::Dropped(DropReason::PayloadType),
        }
    }

    /// Address and form, in this order.
    fn accept<'d>(&self, from: SocketAddr, datagram: &'d [u8]) -> Result<RtpPacket<'d>, DropReason> {
        let remote = self.remote.as_ref().ok_or(DropReason::NoRemote)?;
        remote.rtp.check(from)?;
        RtpPacket::parse(datagram).map_err(|_| DropReason::NotRtp)
    }

    /// The telephone is there, whatever it sends: one that suppresses its silence speaks seldom.
    const fn alive(&mut self, now: Duration) {
        if matches!(self.watch, Watch::Since(_)) {
            self.watch = Watch::Since(now);
        }
    }

    fn payload_of(&self, packet: &RtpPacket<'_>) -> Option<Payload> {
        let media = self.remote.as_ref()?.media;
        let number = packet.payload_type();
        match media.codec_from(number) {
            Some(codec) => Some(Payload::Voice(codec)),
            None if media.receive_events == Some(number) => Some(Payload::Event),
            None => (number == COMFORT_NOISE).then_some(Payload::ComfortNoise),
        }
    }

    fn accepted(
        &mut self,
        now: Duration,
        from: SocketAddr,
        packet: &RtpPacket<'_>,
        payload: Payload,
        out: &mut [u8],
    ) -> TrunkInput {
        let Some(remote) = &mut self.remote else { return TrunkInput::Dropped(DropReason::NoRemote) };
        remote.rtp.learn(from);
        let no_events = remote.media.receive_events.is_none();
        self.reports.received(now, packet.ssrc(), packet.sequence(), packet.timestamp());
        let codec = match payload {
            Payload::Voice(codec) => codec,
            Payload::Event => {
                self.heard_something();
                return self.pressed(now, packet);
            }
            Payload::ComfortNoise => {
                self.hide(packet);
                return TrunkInput::Dropped(DropReason::Payload);
            }
        };
        self.heard_something();
        if codec.payload_ticks(packet.payload()).is_none() {
            return TrunkInput::Dropped(DropReason::Payload);
        }
        if no_events {
            self.listen(codec, packet.payload());
        }
        let Some(uplink) = self.uplink.as_mut().filter(|_| !self.held) else { return TrunkInput::Used };
        uplink.forward(now, packet, codec, out).map_or(TrunkInput::Used, TrunkInput::Forward)
    }

    fn heard_something(&mut self) {
        if !std::mem::replace(&mut self.heard_anything, true) {
            self.tell(MediaEvent::FirstPacket);
        }
    }

    /// The packet has a number in the carrier's stream and none in the room's.
    fn hide(&mut self, packet: &RtpPacket<'_>) {
        if let Some(uplink) = &mut self.uplink {
            uplink.skip(packet);
        }
    }

    /// Keys as tones in the voice.
    fn listen(&mut self, codec: Codec, payload: &[u8]) {
        let mut pcm = [0i16; FRAME];
        let (mut told, decode) = (None, if codec == Codec::Pcma { g711::decode_pcma } else { g711::decode_pcmu });
        for piece in payload.chunks(FRAME) {
            let count = decode(piece, &mut pcm);
            self.ear.push(pcm.get(..count).unwrap_or_default(), |heard| told = Some(heard));
        }
        if let Some(heard) = told {
            self.tell(MediaEvent::Digit(Digit { key: heard.digit, duration_ms: heard.duration_ms }));
        }
    }

    fn pressed(&mut self, now: Duration, packet: &RtpPacket<'_>) -> TrunkInput {
        self.hide(packet);
        let Ok(event) = TelephoneEvent::parse(packet.payload()) else {
            return TrunkInput::Dropped(DropReason::Payload);
        };
        if let Some(digit) = self.digits_in.packet(now, packet.ssrc(), packet.timestamp(), event) {
            self.tell(MediaEvent::Digit(digit));
        }
        TrunkInput::Used
    }

    /// A datagram on the leg's RTCP port.
    pub fn handle_trunk_rtcp(&mut self, now: Duration, from: SocketAddr, datagram: &[u8]) -> TrunkInput {
        let Some(remote) = &mut self.remote else { return TrunkInput::Dropped(DropReason::NoRemote) };
        if let Err(reason) = remote.rtcp.check(from) {
            return TrunkInput::Dropped(reason);
        }
        if !self.reports.take(now, datagram, self.mouth.ssrc) {
            return TrunkInput::Dropped(DropReason::NotRtp);
        }
        remote.rtcp.learn(from);
        self.alive(now);
        TrunkInput::Used
    }

    /// A packet from the Link, already authenticated and decrypted; false if it belongs to no line or cannot be played.
    pub fn handle_link_rtp(&mut self, now: Duration, datagram: &[u8]) -> bool {
        let Ok(packet) = RtpPacket::parse(datagram) else { return false };
        self.speakers.iter_mut().find(|s| s.ssrc == packet.ssrc()).is_some_and(|s| s.push(now, &packet))
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<MediaEvent> {
        let next = self.event.take();
        self.event = self.event_behind.take();
        next
    }

    /// When [`Self::poll_output`] has something next.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.closing {
            return None;
        }
        let watch = match self.watch {
            Watch::Since(at) => Some(at + self.config.media_timeout),
            Watch::Unanswered | Watch::Paused | Watch::Lost => None,
        };
        let reports = self.remote.as_ref().map(|_| self.reports.due());
        [self.tick, reports, self.listener.due(), self.digits_in.deadline(), watch].into_iter().flatten().min()
    }

    /// Lets time pass: ends presses whose end was lost, notices lost media.
    pub fn handle_timeout(&mut self, now: Duration) {
        if let Some(digit) = self.digits_in.expire(now) {
            self.tell(MediaEvent::Digit(digit));
        }
        if let Watch::Since(at) = self.watch
            && now >= at + self.config.media_timeout
        {
            self.watch = Watch::Lost;
            self.tell(MediaEvent::MediaLost);
        }
    }

    /// The next datagram that is due, written into `buffer`. Call until it gives nothing.
    pub fn poll_output(&mut self, now: Duration, buffer: &mut [u8]) -> Option<Output> {
        if self.listener.due().is_some_and(|due| now >= due)
            && !self.closing
            && let Some(length) = self.listener.write(now, &mut self.speakers, buffer)
        {
            return Some(Output::LinkRtcp { length });
        }
        let remote = self.remote.as_ref()?;
        let (rtp, rtcp) = (remote.rtp.target(), remote.rtcp.target());
        if self.closing {
            self.remote = None;
            let length = self.reports.write_goodbye(&self.mouth, buffer)?;
            return Some(Output::TrunkRtcp { to: rtcp, length });
        }
        while let Some(due) = self.tick.filter(|due| *due <= now) {
            self.tick = Some(self.catch_up(now, due) + TICK);
            if let Some(length) = self.frame(now, buffer) {
                return Some(Output::TrunkRtp { to: rtp, length });
            }
        }
        if now >= self.reports.due() {
            let length = self.reports.write(now, &self.mouth, buffer)?;
            return Some(Output::TrunkRtcp { to: rtcp, length });
        }
        None
    }

    /// The tick to play now; frames missed by a late thread are skipped.
    fn catch_up(&mut self, now: Duration, due: Duration) -> Duration {
        let late = now.saturating_sub(due);
        if late < LATE {
            return due;
        }
        let missed = (late.as_millis() / TICK.as_millis()) as u32;
        self.mouth.skip(missed);
        due + TICK * missed
    }

    /// Twenty milliseconds towards the telephone.
    fn frame(&mut self, now: Duration, buffer: &mut [u8]) -> Option<usize> {
        let mut pcm = [0i16; FRAME];
        let sounds = self.hear_room(now, &mut pcm);
        let media = self.remote.as_ref()?.media;
        if !media.sends {
            self.mouth.skip(1);
            return None;
        }
        match self.digits_out.next(media.send_events.is_some(), &mut pcm) {
            Frame::Audio => {}
            Frame::Tone => return self.mouth.speak(&media, &pcm, buffer),
            frame @ Frame::Event { .. } => {
                if let Some(payload_type) = media.send_events {
                    return self.mouth.press(payload_type, frame, buffer);
                }
            }
        }
        if self.held && !sounds {
            let content = self.config.hold_prompt.content(media.codec);
            if let Some(payload) = content.get(self.hold_at % content.len().max(1)) {
                self.hold_at += 1;
                return self.mouth.send(&media, payload, buffer);
            }
        }
        let length = self.mouth.speak(&media, &pcm, buffer)?;
        if matches!(self.watch, Watch::Unanswered) {
            // It reaches the network, and maybe an ear; that is not to be vouched for.
            return Some(length);
        }
        let held = self.held;
        let played = self.speakers.iter_mut().filter(|s| is_heard(s, held)).map(Speaker::was_played);
        if played.fold(false, |any, one| any | one) {
            self.listener.played(now);
        }
        Some(length)
    }

    /// Mixes what the room has for the telephone into `pcm`; false if there is nothing. While held it is the Announcer
    /// alone: everybody in a recorded room hears notice and beeps (DESIGN.md §1, Tap).
    fn hear_room(&mut self, now: Duration, pcm: &mut [i16; FRAME]) -> bool {
        self.mixer.begin(FRAME);
        for speaker in &mut self.speakers {
            if speaker.frame(now, pcm) && is_heard(speaker, self.held) {
                self.mixer.add(pcm);
            }
        }
        self.mixer.write(pcm);
        self.mixer.voices() > 0
    }

    /// Two events can stand together (first packet and digit); more never do before they are polled.
    fn tell(&mut self, event: MediaEvent) {
        if self.event.is_none() {
            self.event = Some(event);
        } else {
            self.event_behind = Some(event);
        }
    }
}

/// Whether a stream of the room reaches a telephone in this state.
fn is_heard(speaker: &Speaker, held: bool) -> bool {
    !held || speaker.line == Line::Announcer
}

/// What a carrier's packet brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Payload {
    Voice(Codec),
    Event,
    /// It says that the line is quiet; nothing of it is forwarded.
    ComfortNoise,
}

/// RFC 3389; nobody negotiated it, everybody sends it.
const COMFORT_NOISE: u8 = 13;
