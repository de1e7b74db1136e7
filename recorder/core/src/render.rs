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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::Aligner;

    const SECOND: u64 = 1_000_000_000;
    const ORIGIN: u64 = 3 * SECOND;

    /// Keeps where loud sounds begin.
    #[derive(Default)]
    struct Onsets {
        found: Vec<i64>,
        last_loud: i64,
        end: i64,
    }

    impl Placed for Onsets {
        fn place(&mut self, at: i64, samples: &[i16]) {
            for (n, _) in (at..).zip(samples).filter(|(_, sample)| sample.unsigned_abs() > 8_000) {
                if n - self.last_loud > 8_000 {
                    self.found.push(n);
                }
                self.last_loud = n;
            }
            self.end = self.end.max(at + samples.len() as i64);
        }
    }

    fn render(codec: CodecName, rate: u32, packets: &[(Entry, Vec<u8>)], out: &mut impl Placed) -> Quality {
        let mut aligner = Aligner::new(codec.clock_rate_hz());
        packets.iter().for_each(|(entry, _)| aligner.push(entry.media_ns, entry.timestamp));
        let mut renderer = RunRenderer::new(codec, aligner.finish(), ORIGIN, rate).unwrap();
        packets.iter().for_each(|(entry, payload)| renderer.push(entry, payload, out));
        renderer.finish(out);
        renderer.quality
    }

    /// A telephone whose clock is wrong by `ppm`, over a network with jitter; a click every minute of true time.
    fn drifting(ppm: i64, minutes: u64, seed: u64) -> Vec<(Entry, Vec<u8>)> {
        let mut random = seed;
        let mut packets = Vec::new();
        for n in 0..minutes * 3_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // `ppm` too fast: the same twenty milliseconds of samples pass in less time.
            let true_ns =
                |samples: u64| (i128::from(samples) * 125_000 * (1_000_000 - i128::from(ppm)) / 1_000_000) as u64;
            let (begin, end) = (true_ns(n * 160), true_ns((n + 1) * 160));
            let mut payload = vec![0xff; 160];
            let minute = begin.div_ceil(60 * SECOND) * 60 * SECOND;
            if minute < end {
                let at = (minute - begin) * 160 / (end - begin);
                payload[usize::try_from(at).unwrap()..].fill(0x80);
            }
            let jitter = (random >> 33) % 40_000_000;
            let entry = Entry {
                media_ns: ORIGIN + begin + jitter,
                timestamp: u32::try_from(n * 160 % (1 << 32)).unwrap().wrapping_add(0xffff_0000),
                sequence: u16::try_from(n % 65_536).unwrap(),
                fill: 0,
            };
            packets.push((entry, payload));
        }
        packets
    }

    #[test]
    fn voices_with_wrong_clocks_stay_within_twenty_milliseconds_for_hours() {
        for (ppm, seed) in [(100, 1), (-100, 2)] {
            let mut onsets = Onsets { last_loud: -100_000, ..Onsets::default() };
            render(CodecName::Pcmu, 8_000, &drifting(ppm, 120, seed), &mut onsets);
            assert!((120..=121).contains(&onsets.found.len()), "{ppm} ppm: {}", onsets.found.len());
            for (minute, at) in onsets.found.iter().enumerate() {
                let expected = minute as i64 * 60 * 8_000;
                assert!((at - expected).abs() <= 160, "{ppm} ppm, minute {minute}: {at} for {expected}");
            }
        }
    }

    fn opus(frames: &[u64], lost: &[u64]) -> Vec<(Entry, Vec<u8>)> {
        let mut encoder = offhook_media::OpusEncoder::new(48_000, 5, 32_000).unwrap();
        let tone = offhook_media::tone::sine(500.0, -10.0, 48_000, 1_000);
        let mut packets = Vec::new();
        for (n, sequence) in frames.iter().zip(0_u16..) {
            let at = usize::try_from(n % 50).unwrap() * 960;
            let mut bytes = vec![0; 1_276];
            let length = encoder.encode(&tone[at..at + 960], &mut bytes).unwrap();
            bytes.truncate(length);
            let timestamp = u32::try_from(n * 960).unwrap();
            if !lost.contains(n) {
                packets.push((Entry { media_ns: ORIGIN + n * 20_000_000, timestamp, sequence, fill: 0 }, bytes));
            }
        }
        packets
    }

    fn channel(packets: &[(Entry, Vec<u8>)], seconds: usize) -> (Vec<i16>, Quality) {
        let mut mixer = Mixer::default();
        let channels = Channels { left: true, right: false };
        let quality = render(CodecName::Opus, 48_000, packets, &mut Voiced { mixer: &mut mixer, channels });
        let mut both = Vec::new();
        mixer.take(seconds * 48_000, &mut both);
        assert!(both.iter().skip(1).step_by(2).all(|sample| *sample == 0), "nothing on the other side");
        (both.iter().step_by(2).map(|sample| *sample as i16).collect(), quality)
    }

    #[test]
    fn silence_without_packets_is_silence_of_its_length() {
        let frames: Vec<u64> = (0..50).chain(150..200).collect();
        let (left, quality) = channel(&opus(&frames, &[]), 4);
        let loud = |from_ms: usize, until_ms: usize| {
            left[from_ms * 48..until_ms * 48].iter().map(|s| s.unsigned_abs()).max().unwrap()
        };
        assert!(loud(500, 900) > 8_000 && loud(1_010, 2_990) == 0 && loud(3_100, 3_900) > 8_000);
        assert_eq!(quality, Quality::default(), "a pause is no loss");
    }

    #[test]
    fn a_short_loss_is_concealed_and_a_long_one_is_silent() {
        let frames: Vec<u64> = (0..200).collect();
        let (left, quality) = channel(&opus(&frames, &[40, 41]), 4);
        assert_eq!(quality.concealed_ms, 40);
        assert!(offhook_media::detect::presence(&left[4_800..187_000], 48_000, 500.0) > 0.99);
        let lost: Vec<u64> = (40..90).collect();
        let (left, quality) = channel(&opus(&frames, &lost), 4);
        assert!(quality.concealed_ms <= 60);
        assert!(left[900 * 48..1_750 * 48].iter().all(|sample| *sample == 0));
        assert!(left[1_850 * 48..1_990 * 48].iter().any(|sample| sample.unsigned_abs() > 8_000));
    }

    #[test]
    fn rates_and_channels_follow_the_parties() {
        use CodecName::{Opus, Pcma, Pcmu};
        assert_eq!(output_rate(&[Pcmu, Pcma]), 8_000);
        assert_eq!(output_rate(&[Pcmu, Opus]), 48_000);
        assert_eq!(output_rate(&[]), 48_000);
        let caller = [LegId::parse("a").unwrap()];
        let of = |voice| channels_of(&voice, &caller);
        assert_eq!(of(Voice::Leg(LegId::parse("a").unwrap())), Channels { left: true, right: false });
        assert_eq!(of(Voice::Leg(LegId::parse("b").unwrap())), Channels { left: false, right: true });
        assert_eq!(of(Voice::Announcer), Channels { left: true, right: true });
    }

    #[test]
    fn loud_voices_together_are_limited_and_not_turned_over() {
        let mut mixer = Mixer::default();
        let both = Channels { left: true, right: true };
        Voiced { mixer: &mut mixer, channels: both }.place(0, &[30_000; 4]);
        Voiced { mixer: &mut mixer, channels: both }.place(2, &[30_000; 4]);
        Voiced { mixer: &mut mixer, channels: both }.place(-1, &[-5; 2]);
        let mut out = Vec::new();
        mixer.take(7, &mut out);
        let left: Vec<i32> = out.iter().step_by(2).copied().collect();
        assert_eq!(left, [29_995, 30_000, 32_767, 32_767, 30_000, 30_000, 0]);
        assert_eq!(mixer.late, 1);
    }
}
