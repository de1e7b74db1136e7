//! Room to telephone, one stream of the Link: buffered, decoded to 8 kHz, gaps concealed.

use std::time::Duration;

use offhook_contract::CodecName;
use offhook_media::opus_codec::OpusError;
use offhook_media::{Arrival, Codec, JitterBuffer, OpusDecoder, Pull, g711};
use offhook_wire_rtp::rtcp::ReportBlock;
use offhook_wire_rtp::{ReceiverStats, RtpPacket};

use super::{FRAME, RATE};

/// The longest packet is 120 ms; one frame may be left over when it comes.
const PCM: usize = 960 + FRAME;
/// Depth of each jitter buffer.
const DEPTH: Duration = Duration::from_millis(60);
/// After this many concealed frames in a row G.711 is silent; each is quieter than the one before.
const G711_CONCEALED: u32 = 3;

/// The SFU lets a party miss one frame in so many of an announcement: a short key press over a notice ends nothing.
const MISSED_ONE_IN: u32 = 10;

/// What a Link brings: its slots' and its Announcer's SSRC. Holds the decoders, so it is made outside the media thread.
#[derive(Debug)]
pub struct LinkStreams {
    pub(super) ssrc: u32,
    pub(super) speakers: Vec<Speaker>,
}

impl LinkStreams {
    /// `ssrc` is ours on the Link; `slots` and `announcer` are the SFU's.
    pub fn new(ssrc: u32, slots: &[u32], announcer: u32) -> Result<Self, OpusError> {
        let slots = slots.iter().take(MAX_SLOTS).map(|ssrc| (*ssrc, Line::Slot));
        let all = slots.chain(std::iter::once((announcer, Line::Announcer)));
        Ok(Self { ssrc, speakers: all.map(|(ssrc, line)| Speaker::new(ssrc, line)).collect::<Result<_, _>>()? })
    }
}

/// A Link's slots at most.
const MAX_SLOTS: usize = 16;

/// What a stream of the Link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Slot,
    /// Notices and beeps: a held telephone hears them, too.
    Announcer,
}

#[derive(Debug)]
pub(super) struct Speaker {
    pub(super) ssrc: u32,
    pub(super) line: Line,
    buffer: JitterBuffer,
    opus: OpusDecoder,
    codec: Codec,
    pcm: Box<[i16; PCM]>,
    filled: usize,
    concealed: u32,
    last: [i16; FRAME],
    stats: ReceiverStats,
    /// The packet that the last frame was made of until it is played, and the last one to vouch for.
    taken: Option<u16>,
    played: Option<u16>,
    /// Of what sounds without a pause: packets, and those of them that the telephone was not sent.
    burst: u32,
    skipped: u32,
}

impl Speaker {
    fn new(ssrc: u32, line: Line) -> Result<Self, OpusError> {
        Ok(Self {
            ssrc,
            line,
            buffer: JitterBuffer::fixed(Codec::Opus.clock_rate(), DEPTH),
            opus: OpusDecoder::new(RATE)?,
            codec: Codec::Opus,
            pcm: Box::new([0; PCM]),
            filled: 0,
            concealed: 0,
            last: [0; FRAME],
            stats: ReceiverStats::new(),
            taken: None,
            played: None,
            burst: 0,
            skipped: 0,
        })
    }

    /// Takes a packet of this stream; false if it cannot be played.
    pub(super) fn push(&mut self, now: Duration, packet: &RtpPacket<'_>) -> bool {
        let Some(codec) = codec_of(packet.payload_type()) else { return false };
        let Some(ticks) = codec.payload_ticks(packet.payload()) else { return false };
        let arrived = now.as_nanos() as u64;
        self.stats.on_packet(packet.sequence(), packet.timestamp(), codec.clock_rate(), arrived);
        if codec.clock_rate() != self.buffer.clock_rate() {
            // Another codec on the same line: its timestamps count in its own clock.
            self.buffer.reset(codec.clock_rate());
        }
        let arrival = Arrival {
            sequence: packet.sequence(),
            timestamp: packet.timestamp(),
            ssrc: packet.ssrc(),
            payload_type: packet.payload_type(),
            ticks,
            payload: packet.payload(),
        };
        self.buffer.push(now, &arrival);
        true
    }

    /// What a receiver report says of this stream. The SFU takes its highest sequence number for heard (DESIGN.md §5,
    /// receipt), so it is that of the last packet that the telephone was sent, not of the last one that came.
    pub(super) fn report(&mut self, now: Duration) -> Option<ReportBlock> {
        let played = self.played?;
        let mut block = self.stats.report(self.ssrc, now.as_nanos() as u64)?;
        let waiting = (block.highest_sequence as u16).wrapping_sub(played);
        block.highest_sequence = block.highest_sequence.wrapping_sub(u32::from(waiting));
        Some(block)
    }

    /// The last frame went to the telephone; whether there is something new to vouch for. A number vouches for all before
    /// it, so of an announcement that was not heard from its beginning none is given, nor of the one right behind it.
    pub(super) fn was_played(&mut self) -> bool {
        let Some(sequence) = self.taken.take() else { return false };
        if self.line == Line::Announcer && self.skipped * MISSED_ONE_IN > self.burst {
            return false;
        }
        self.played = Some(sequence);
        true
    }

    /// Writes the next 20 ms; false if there is nothing to hear.
    pub(super) fn frame(&mut self, now: Duration, out: &mut [i16; FRAME]) -> bool {
        self.skipped += u32::from(self.taken.take().is_some());
        while self.filled < FRAME {
            let Some(added) = self.pull(now) else { break };
            self.filled += added;
        }
        if self.filled == 0 {
            (self.burst, self.skipped) = (0, 0);
            return false;
        }
        let (ready, _) = self.pcm.split_at(self.filled.min(PCM));
        let used = ready.len().min(FRAME);
        out.fill(0);
        out.iter_mut().zip(ready).for_each(|(o, s)| *o = *s);
        self.pcm.copy_within(used..self.filled, 0);
        self.filled -= used;
        self.last = *out;
        true
    }

    /// Decodes or conceals one packet behind what is ready; how many samples came.
    fn pull(&mut self, now: Duration) -> Option<usize> {
        let room = self.pcm.get_mut(self.filled..)?;
        match self.buffer.pull(now) {
            Pull::Empty => None,
            Pull::Frame { payload, payload_type, sequence, restarted, .. } => {
                let codec = codec_of(payload_type)?;
                if codec == Codec::Opus && (restarted || self.codec != codec) {
                    // A decoder that cannot be reset keeps its old state: a click, not a failure.
                    let _ = self.opus.reset();
                }
                self.codec = codec;
                self.concealed = 0;
                let added = match codec {
                    Codec::Opus => self.opus.decode(payload, room).ok(),
                    Codec::Pcmu => Some(g711::decode_pcmu(payload, room)),
                    Codec::Pcma => Some(g711::decode_pcma(payload, room)),
                }
                .filter(|added| *added > 0)?;
                self.taken = Some(sequence);
                self.burst += 1;
                Some(added)
            }
            Pull::Missing { ticks } => {
                let wanted = (ticks / (self.buffer.clock_rate() / RATE)) as usize;
                let room = room.get_mut(..wanted.clamp(20, 960) / 20 * 20)?;
                self.concealed += 1;
                Some(match self.codec {
                    Codec::Opus => self.opus.decode_lost(room).unwrap_or_else(|_| silence(room)),
                    Codec::Pcmu | Codec::Pcma if self.concealed > G711_CONCEALED => silence(room),
                    Codec::Pcmu | Codec::Pcma => fade(&self.last, self.concealed, room),
                })
            }
        }
    }
}

fn silence(room: &mut [i16]) -> usize {
    room.fill(0);
    room.len()
}

/// The last frame again, quieter each time.
fn fade(last: &[i16; FRAME], times: u32, room: &mut [i16]) -> usize {
    for (sample, old) in room.iter_mut().zip(last.iter().cycle()) {
        *sample = (i32::from(*old) >> times) as i16;
    }
    room.len()
}

fn codec_of(payload_type: u8) -> Option<Codec> {
    Some(match CodecName::from_link_payload_type(payload_type)? {
        CodecName::Opus => Codec::Opus,
        CodecName::Pcmu => Codec::Pcmu,
        CodecName::Pcma => Codec::Pcma,
    })
}
