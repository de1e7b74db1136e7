//! From packets to two channels: each run decoded at its place, gaps as silence, a drifting clock followed by
//! stretching single frames a little, all voices added up.
use crate::align::Alignment;
use crate::input::Voice;
use crate::timeline::Entry;
use offhook_contract::{CodecName, LegId};
use offhook_media::resample::{Resampler, UnsupportedRates};
use offhook_media::{OpusDecoder, OpusError, g711};
use std::collections::VecDeque;

/// A place further away than this from where the last frame ended is a gap, not drift.
const GAP_MS: i64 = 20;
/// Drift is corrected once it is worth hearing.
const DRIFT_MS: i64 = 1;
/// Concealment after a loss; longer ones are silence.
const CONCEAL_MS: i64 = 60;
/// RFC 6716 §3.2.5: no packet is longer.
const LONGEST_PACKET_MS: usize = 120;

/// Where a voice is heard: in the left channel, the right one, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    pub left: bool,
    pub right: bool,
}

/// The caller left, all others right, the Announcer on both sides.
pub fn channels_of(voice: &Voice, caller_legs: &[LegId]) -> Channels {
    match voice {
        Voice::Announcer => Channels { left: true, right: true },
        Voice::Leg(leg) => {
            let left = caller_legs.contains(leg);
            Channels { left, right: !left }
        }
    }
}

/// 8 kHz if every party spoke G.711, else 48 kHz: nothing a party sent is cut off, nothing is invented.
pub fn output_rate<'a>(party_codecs: impl IntoIterator<Item = &'a CodecName>) -> u32 {
    let mut codecs = party_codecs.into_iter().peekable();
    let known = codecs.peek().is_some();
    if known && codecs.all(|codec| *codec != CodecName::Opus) { 8_000 } else { 48_000 }
}

#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error(transparent)]
    Opus(#[from] OpusError),
    #[error(transparent)]
    Rate(#[from] UnsupportedRates),
}

/// What a run's decoding met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quality {
    pub concealed_ms: u64,
    pub undecodable: u64,
}

/// Decodes a stream of one codec and says where its samples belong.
#[derive(Debug)]
pub struct RunRenderer {
    codec: CodecName,
    alignment: Alignment,
    origin_ns: i64,
    decoder: Option<OpusDecoder>,
    /// The rate at which frames are decoded and placed; the output's rate is a multiple.
    work_rate: i64,
    /// Where the next sample goes, at the work rate; `None` before the first.
    cursor: Option<i64>,
    last_sequence: u16,
    upsampler: Option<Upsampler>,
    pcm: Vec<i16>,
    pub quality: Quality,
}

/// Samples and where the first of them belongs, at the output rate, counted from the recording's zero.
pub trait Placed {
    fn place(&mut self, at: i64, samples: &[i16]);
}

impl RunRenderer {
    pub fn new(codec: CodecName, alignment: Alignment, origin_ns: u64, rate: u32) -> Result<Self, RenderError> {
        let is_opus = codec == CodecName::Opus;
        let work_rate = if is_opus { rate } else { 8_000 };
        let upsampler = (work_rate != rate).then(|| Upsampler::new(work_rate, rate)).transpose()?;
        Ok(Self {
            codec,
            alignment,
            origin_ns: i64::try_from(origin_ns).unwrap_or(i64::MAX),
            decoder: is_opus.then(|| OpusDecoder::new(rate)).transpose()?,
            work_rate: i64::from(work_rate),
            cursor: None,
            last_sequence: 0,
            upsampler,
            pcm: Vec::new(),
            quality: Quality::default(),
        })
    }

    const fn work_samples(&self, ms: i64) -> i64 {
        ms * self.work_rate / 1_000
    }

    /// The next packet of the stream.
    pub fn push(&mut self, entry: &Entry, payload: &[u8], out: &mut impl Placed) {
        let place_ns = self.alignment.place(entry.timestamp) - self.origin_ns;
        let target = i64::try_from(i128::from(place_ns) * i128::from(self.work_rate) / 1_000_000_000).unwrap_or(0);
        let (at, drift) = match self.cursor {
            Some(cursor) => self.continue_at(cursor, target, entry.sequence, out),
            None => (target, 0),
        };
        self.last_sequence = entry.sequence;
        self.decode(payload);
        let pcm = std::mem::take(&mut self.pcm);
        let length = self.corrected_length(pcm.len(), drift);
        if length == pcm.len() {
            self.emit(at, &pcm, out);
        } else {
            self.emit(at, &stretch(&pcm, length), out);
        }
        self.pcm = pcm;
        self.cursor = Some(at + i64::try_from(length).unwrap_or(0));
    }

    /// Where the next frame goes if the last one ended at `cursor`, and by how much the clock has drifted.
    fn continue_at(&mut self, cursor: i64, target: i64, sequence: u16, out: &mut impl Placed) -> (i64, i64) {
        let lost = sequence.wrapping_sub(self.last_sequence) > 1;
        let (near, unit) = (self.work_samples(GAP_MS), self.work_rate / 400);
        let mut cursor = cursor;
        if lost && target - cursor >= unit {
            cursor += self.conceal(cursor, target - cursor, out);
        }
        let off = target - cursor;
        if off.abs() < near && !(lost && off >= unit) {
            return (cursor, off);
        }
        self.end_stretch(out);
        (target, 0)
    }

    /// Hides a short loss; what is left of a longer one stays silent. Returns the samples made up.
    fn conceal(&mut self, cursor: i64, gap: i64, out: &mut impl Placed) -> i64 {
        let longest = self.work_samples(CONCEAL_MS);
        let Some(decoder) = &mut self.decoder else { return 0 };
        let unit = self.work_rate / 400;
        let length = gap.min(longest) / unit * unit;
        let mut pcm = vec![0; usize::try_from(length).unwrap_or(0)];
        if decoder.decode_lost(&mut pcm).is_err() {
            return 0;
        }
        self.quality.concealed_ms += u64::try_from(length * 1_000 / self.work_rate).unwrap_or(0);
        self.emit(cursor, &pcm, out);
        length
    }

    fn decode(&mut self, payload: &[u8]) {
        let longest = usize::try_from(self.work_rate).unwrap_or(0) / 1_000 * LONGEST_PACKET_MS;
        self.pcm.clear();
        let samples = match (&mut self.decoder, self.codec) {
            (Some(decoder), _) => {
                self.pcm.resize(longest, 0);
                decoder.decode(payload, &mut self.pcm).unwrap_or_else(|_| {
                    self.quality.undecodable += 1;
                    0
                })
            }
            (None, CodecName::Pcma) => {
                self.pcm.resize(payload.len(), 0);
                g711::decode_pcma(payload, &mut self.pcm)
            }
            (None, _) => {
                self.pcm.resize(payload.len(), 0);
                g711::decode_pcmu(payload, &mut self.pcm)
            }
        };
        self.pcm.truncate(samples);
    }

    /// At most half a percent, or one sample, at a time.
    fn corrected_length(&self, length: usize, drift: i64) -> usize {
        if drift.abs() < self.work_samples(DRIFT_MS) || length < 16 {
            return length;
        }
        let step = (length / 200).max(1).min(usize::try_from(drift.unsigned_abs()).unwrap_or(1));
        if drift > 0 { length + step } else { length - step }
    }

    fn emit(&mut self, at: i64, pcm: &[i16], out: &mut impl Placed) {
        match &mut self.upsampler {
            Some(upsampler) => upsampler.push(at, pcm, out),
            None => out.place(at, pcm),
        }
    }

    fn end_stretch(&mut self, out: &mut impl Placed) {
        if let Some(upsampler) = &mut self.upsampler {
            upsampler.end(out);
        }
    }

    /// After the last packet.
    pub fn finish(&mut self, out: &mut impl Placed) {
        self.end_stretch(out);
    }

    /// No later packet is placed before this sample of the output, as far as is known.
    pub fn behind(&self) -> Option<i64> {
        let ratio = self.upsampler.as_ref().map_or(1, |upsampler| upsampler.ratio);
        self.cursor.map(|cursor| cursor * ratio)
    }
}

/// Linear interpolation onto a slightly different number of samples.
fn stretch(pcm: &[i16], length: usize) -> Vec<i16> {
    let scale = (pcm.len().saturating_sub(1)) as f64 / (length.saturating_sub(1)).max(1) as f64;
    let sample = |index: usize| f64::from(pcm.get(index).or(pcm.last()).copied().unwrap_or(0));
    let interpolate = |n: usize| {
        let x = n as f64 * scale;
        let (index, part) = (x as usize, x.fract());
        (sample(index) * (1.0 - part) + sample(index + 1) * part).round() as i16
    };
    (0..length).map(interpolate).collect()
}

/// Brings stretches of 8 kHz to the output's rate with the filter's delay taken out.
#[derive(Debug)]
struct Upsampler {
    filter: Resampler,
    fresh: Resampler,
    ratio: i64,
    lag: usize,
    /// Samples still to be left out at the start of the stretch.
    skip: usize,
    at: Option<i64>,
    out: Vec<i16>,
}

impl Upsampler {
    fn new(from: u32, to: u32) -> Result<Self, UnsupportedRates> {
        let filter = Resampler::new(from, to)?;
        let lag = filter.delay_input_samples();
        Ok(Self { fresh: filter.clone(), filter, ratio: i64::from(to / from), lag, skip: 0, at: None, out: Vec::new() })
    }

    fn push(&mut self, at: i64, pcm: &[i16], out: &mut impl Placed) {
        if self.at.is_none() {
            self.at = Some(at * self.ratio);
            self.filter = self.fresh.clone();
            self.skip = self.lag * usize::try_from(self.ratio).unwrap_or(1);
        }
        self.run(pcm, out);
    }

    fn run(&mut self, pcm: &[i16], out: &mut impl Placed) {
        self.out.clear();
        self.filter.process(pcm, &mut self.out);
        let skipped = self.skip.min(self.out.len());
        self.skip -= skipped;
        if let (Some(at), Some(fresh)) = (&mut self.at, self.out.get(skipped..)) {
            out.place(*at, fresh);
            *at += i64::try_from(fresh.len()).unwrap_or(0);
        }
    }

    fn end(&mut self, out: &mut impl Placed) {
        if self.at.is_some() {
            self.run(&vec![0; self.lag], out);
            self.at = None;
        }
    }
}

/// Two channels being added up, given out from the front.
#[derive(Debug, Default)]
pub struct Mixer {
    base: i64,
    left: VecDeque<i32>,
    right: VecDeque<i32>,
    /// Samples that came for a place already given out.
    pub late: u64,
}

/// The mixer as one voice sees it.
#[derive(Debug)]
pub struct Voiced<'a> {
    pub mixer: &'a mut Mixer,
    pub channels: Channels,
}

impl Placed for Voiced<'_> {
    fn place(&mut self, at: i64, samples: &[i16]) {
        self.mixer.add(self.channels, at, samples);
    }
}

impl Mixer {
    fn add(&mut self, channels: Channels, at: i64, samples: &[i16]) {
        let missed = usize::try_from((self.base - at).max(0)).unwrap_or(usize::MAX).min(samples.len());
        self.late += missed as u64;
        let Some(samples) = samples.get(missed..) else { return };
        let start = usize::try_from((at - self.base).max(0)).unwrap_or(0);
        for (wanted, side) in [(channels.left, &mut self.left), (channels.right, &mut self.right)] {
            if !wanted {
                continue;
            }
            if side.len() < start + samples.len() {
                side.resize(start + samples.len(), 0);
            }
            side.range_mut(start..).zip(samples).for_each(|(sum, sample)| *sum += i32::from(*sample));
        }
    }

    /// The next `count` samples of both channels, interleaved.
    pub fn take(&mut self, count: usize, out: &mut Vec<i32>) {
        for _ in 0..count {
            for side in [&mut self.left, &mut self.right] {
                let sum = side.pop_front().unwrap_or(0);
                out.push(sum.clamp(i32::from(i16::MIN), i32::from(i16::MAX)));
            }
        }
        self.base += i64::try_from(count).unwrap_or(0);
    }
}
