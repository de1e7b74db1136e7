//! Finding tones in sound: what proves in tests and in the recorder that a tone arrived, and that another did not.
//!
//! A tone counts as present when its bin stands out from its neighbours, not when it holds most of the energy:
//! that survives a second tone, speech above it, and any codec we carry.

use std::f32::consts::TAU;

/// Offsets of the bins a 20 ms frame is compared with: outside the main lobe of the window (±100 Hz).
const NEIGHBOURS_HZ: [f32; 12] =
    [-400.0, -350.0, -300.0, -250.0, -200.0, -150.0, 150.0, 200.0, 250.0, 300.0, 350.0, 400.0];
/// How far the bin must stand above the median of its neighbours; noise does this in fewer than 1 of 500 frames.
const CONTRAST_DB: f32 = 13.0;
/// Tones weaker than this are not counted.
const FLOOR_DBFS: f32 = -60.0;
/// Stage one of the burst finder: windows of 80 ms every 10 ms.
const COARSE_WINDOW_MS: usize = 80;
const COARSE_HOP_MS: usize = 10;
/// A stretch goes on while the contrast is this good; somewhere in it, it must reach `CONTRAST_DB`.
const COARSE_CONTRAST_DB: f32 = 9.0;
/// A burst found is looked at once more as a whole, up to this length around its middle.
const PROOF_WINDOW_MS: usize = 160;
/// Stage two finds the edges with a window of 20 ms moved by 2 ms.
const FINE_WINDOW_MS: usize = 20;
const FINE_HOP_MS: usize = 2;
/// Shorter bursts are speech or noise.
const SHORTEST_BURST_MS: u32 = 40;

/// One stretch of a tone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    pub start_ms: u32,
    pub len_ms: u32,
}

/// The amplitude of `hz` in a frame seen through a Hann window, as power relative to a full-scale sine.
pub fn tone_power(samples: &[i16], rate: u32, hz: f32) -> f32 {
    let count = samples.len();
    if count == 0 || rate == 0 {
        return 0.0;
    }
    // The Goertzel recurrence, with a window that costs one more recurrence for its cosine.
    let coefficient = 2.0 * (TAU * hz / rate as f32).cos();
    let window_step = TAU / count as f32;
    let window_coefficient = 2.0 * window_step.cos();
    let (mut c1, mut c2) = ((window_step * 0.5).cos(), (window_step * 1.5).cos());
    let (mut s1, mut s2) = (0f32, 0f32);
    for sample in samples {
        let window = 0.5 - 0.5 * c1;
        let s0 = f32::from(*sample) * window + coefficient * s1 - s2;
        (s2, s1) = (s1, s0);
        let c0 = window_coefficient * c1 - c2;
        (c2, c1) = (c1, c0);
    }
    let power = s1 * s1 + s2 * s2 - coefficient * s1 * s2;
    // A sine of amplitude A gives |X| = A·N/4 through a Hann window (its mean is one half).
    let full = 32_767.0 * count as f32 / 4.0;
    power.max(0.0) / (full * full)
}

/// Power of `hz` over the median power of its neighbours, in decibels.
fn contrast_db(samples: &[i16], rate: u32, hz: f32, power: f32) -> f32 {
    let nyquist = rate as f32 / 2.0;
    let mut around = [f32::MAX; NEIGHBOURS_HZ.len()];
    let mut known = 0;
    for (slot, offset) in around.iter_mut().zip(NEIGHBOURS_HZ) {
        let at = hz + offset;
        if at > 50.0 && at < nyquist - 50.0 {
            *slot = tone_power(samples, rate, at);
            known += 1;
        }
    }
    around.sort_by(f32::total_cmp);
    let median = around.get(known / 2).copied().unwrap_or(f32::MAX);
    decibels(power / median.max(1e-14))
}

fn decibels(power: f32) -> f32 {
    10.0 * power.max(1e-14).log10()
}

/// Counts, frame by frame of 20 ms, in how many a tone is present.
#[derive(Debug, Clone)]
pub struct ToneMeter {
    rate: u32,
    hz: f32,
    held: Vec<i16>,
    frames: u32,
    present: u32,
    longest_gap: u32,
    gap: u32,
}

impl ToneMeter {
    pub fn new(rate: u32, hz: f32) -> Self {
        let held = Vec::with_capacity(frame_samples(rate));
        Self { rate, hz, held, frames: 0, present: 0, longest_gap: 0, gap: 0 }
    }

    /// Takes samples in pieces of any length.
    pub fn push(&mut self, samples: &[i16]) {
        let frame = frame_samples(self.rate);
        for sample in samples {
            self.held.push(*sample);
            if self.held.len() >= frame {
                self.count();
            }
        }
    }

    fn count(&mut self) {
        self.frames += 1;
        if is_present(&self.held, self.rate, self.hz) {
            self.present += 1;
            self.gap = 0;
        } else {
            self.gap += 1;
            self.longest_gap = self.longest_gap.max(self.gap);
        }
        self.held.clear();
    }

    pub const fn frames(&self) -> u32 {
        self.frames
    }

    pub const fn frames_with_tone(&self) -> u32 {
        self.present
    }

    /// The longest run of frames without the tone.
    pub const fn longest_gap_frames(&self) -> u32 {
        self.longest_gap
    }

    /// The share of whole frames in which the tone was present; 0 before the first.
    pub fn presence(&self) -> f32 {
        if self.frames == 0 { 0.0 } else { self.present as f32 / self.frames as f32 }
    }
}

fn frame_samples(rate: u32) -> usize {
    (rate / 50).max(1) as usize
}

/// Whether a frame (20 ms or longer) holds the tone.
pub fn is_present(frame: &[i16], rate: u32, hz: f32) -> bool {
    let power = tone_power(frame, rate, hz);
    decibels(power) > FLOOR_DBFS && contrast_db(frame, rate, hz, power) > CONTRAST_DB
}

/// The share of 20 ms frames in which `hz` is present.
pub fn presence(samples: &[i16], rate: u32, hz: f32) -> f32 {
    let mut meter = ToneMeter::new(rate, hz);
    meter.push(samples);
    meter.presence()
}

/// The mean level of `hz`, in dBFS of a sine; at most −140 when there is nothing.
pub fn level_dbfs_of(samples: &[i16], rate: u32, hz: f32) -> f32 {
    // Windows of 100 ms: tones 100 Hz apart do not leak into each other above −60 dB.
    let window = (rate as usize / 10).min(samples.len());
    if window == 0 {
        return -140.0;
    }
    let (mut sum, mut count) = (0f64, 0u32);
    for frame in samples.windows(window).step_by((window / 2).max(1)) {
        sum += f64::from(tone_power(frame, rate, hz));
        count += 1;
    }
    decibels((sum / f64::from(count.max(1))) as f32)
}

/// The strongest frequency within `spread_hz` of `near`, to a fraction of a hertz.
pub fn frequency_near(samples: &[i16], rate: u32, near: f32, spread_hz: f32) -> f32 {
    let steps = (spread_hz.clamp(0.0, 2_000.0) * 2.0) as i32;
    let strongest = |at: f32, unit: f32, count: i32| {
        (-count..=count)
            .map(|i| at + i as f32 * unit)
            .map(|hz| (hz, tone_power(samples, rate, hz)))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map_or(at, |best| best.0)
    };
    strongest(strongest(near, 0.5, steps), 0.05, 10)
}

/// The stretches in which `hz` sounds, edges within some milliseconds.
pub fn find_bursts(samples: &[i16], rate: u32, hz: f32) -> Vec<Burst> {
    let per_ms = rate as usize / 1_000;
    if per_ms == 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut open: Option<Stretch> = None;
    let (half, hop) = (COARSE_WINDOW_MS * per_ms / 2, COARSE_HOP_MS * per_ms);
    // Half windows at both ends, so that bursts there are seen too.
    for at in (0..samples.len() + 2 * half).step_by(hop) {
        let (from, until) = (at.saturating_sub(half), (at + half).min(samples.len()));
        let frame = samples.get(from..until).unwrap_or(&[]);
        let contrast = if frame.len() < half { f32::MIN } else { audible_contrast_db(frame, rate, hz) };
        match &mut open {
            Some(stretch) if contrast > COARSE_CONTRAST_DB => {
                stretch.end = until;
                stretch.best_db = stretch.best_db.max(contrast);
            }
            None if contrast > COARSE_CONTRAST_DB => {
                open = Some(Stretch { start: from, end: until, best_db: contrast });
            }
            Some(stretch) if at > stretch.end => {
                found.extend(edges(samples, rate, hz, stretch));
                open = None;
            }
            _ => {}
        }
    }
    found.extend(open.and_then(|stretch| edges(samples, rate, hz, &stretch)));
    found
}

/// Samples in which a burst is suspected.
struct Stretch {
    start: usize,
    end: usize,
    best_db: f32,
}

fn audible_contrast_db(frame: &[i16], rate: u32, hz: f32) -> f32 {
    let power = tone_power(frame, rate, hz);
    if decibels(power) > FLOOR_DBFS { contrast_db(frame, rate, hz, power) } else { f32::MIN }
}

/// The tone's amplitude against time between two samples, then the places where it crosses half its height.
fn edges(samples: &[i16], rate: u32, hz: f32, stretch: &Stretch) -> Option<Burst> {
    if stretch.best_db < CONTRAST_DB {
        return None;
    }
    let per_ms = rate as usize / 1_000;
    let (window, hop) = (FINE_WINDOW_MS * per_ms, FINE_HOP_MS * per_ms);
    let first = stretch.start.saturating_sub(window);
    let last = (stretch.end + window).min(samples.len());
    let mut envelope = Vec::new();
    let mut at = first;
    let mut padded = vec![0i16; window];
    while at <= last {
        for (i, slot) in padded.iter_mut().enumerate() {
            *slot = (at + i).checked_sub(window / 2).and_then(|n| samples.get(n)).copied().unwrap_or(0);
        }
        envelope.push(tone_power(&padded, rate, hz).sqrt());
        at += hop;
    }
    let mut sorted = envelope.clone();
    sorted.sort_by(f32::total_cmp);
    let height = sorted.get(sorted.len() * 3 / 4).copied()?;
    let rise = envelope.iter().position(|a| *a >= height / 2.0)?;
    let fall = envelope.iter().rposition(|a| *a >= height / 2.0)?;
    let middle = first + (rise + fall) * hop / 2;
    let reach = ((fall - rise) * hop).min(PROOF_WINDOW_MS * per_ms) / 2;
    let proof = samples.get(middle.saturating_sub(reach)..(middle + reach).min(samples.len()))?;
    if audible_contrast_db(proof, rate, hz) < CONTRAST_DB {
        return None;
    }
    let millis = |index: usize| ((first + index * hop) / per_ms) as u32;
    let burst = Burst { start_ms: millis(rise), len_ms: millis(fall) - millis(rise) };
    (burst.len_ms >= SHORTEST_BURST_MS).then_some(burst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{g711, tone};

    pub(crate) fn noise(count: usize, peak: f32, seed: u32) -> Vec<i16> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 8) as f32 / 8_388_608.0 - 1.0).mul_add(peak, 0.0) as i16
            })
            .collect()
    }

    #[test]
    fn a_tone_is_present_in_every_frame_and_others_are_not() {
        for rate in [8_000, 16_000, 48_000] {
            let pcm = tone::sine(1_000.0, -20.0, rate, 2_000);
            assert!(presence(&pcm, rate, 1_000.0) >= 0.99, "{rate}");
            for other in [400.0, 700.0, 1_300.0, 1_400.0, 2_000.0] {
                assert!(presence(&pcm, rate, other) < 0.02, "{other} at {rate}");
                assert!(level_dbfs_of(&pcm, rate, other) < -75.0, "{other} at {rate}");
            }
        }
    }

    #[test]
    fn white_noise_holds_no_tone() {
        for rate in [8_000u32, 48_000] {
            let pcm = noise(rate as usize * 20, 8_000.0, 7);
            for hz in [425.0, 1_000.0, 1_400.0] {
                let share = presence(&pcm, rate, hz);
                assert!(share < 0.01, "{hz} at {rate}: {share}");
                assert!(find_bursts(&pcm, rate, hz).is_empty(), "{hz} at {rate}");
            }
        }
    }

    #[test]
    fn two_tones_are_told_apart_at_forty_decibels() {
        let strong = tone::sine(1_000.0, -10.0, 8_000, 1_000);
        let weak = tone::sine(1_200.0, -50.0, 8_000, 1_000);
        let mut both = vec![0; strong.len()];
        crate::mix::mix(&[&strong, &weak], &mut both);
        assert!((level_dbfs_of(&both, 8_000, 1_200.0) + 50.0).abs() < 1.5);
        assert!((level_dbfs_of(&both, 8_000, 1_000.0) + 10.0).abs() < 0.5);
    }

    #[test]
    fn a_missing_stretch_is_counted_frame_by_frame() {
        let mut pcm = tone::sine(600.0, -14.0, 8_000, 1_000);
        pcm[3_200..4_800].fill(0);
        let mut meter = ToneMeter::new(8_000, 600.0);
        pcm.chunks(37).for_each(|piece| meter.push(piece));
        assert_eq!((meter.frames(), meter.frames_with_tone(), meter.longest_gap_frames()), (50, 40, 10));
    }

    #[test]
    fn bursts_are_found_within_ten_milliseconds() {
        for rate in [8_000u32, 48_000] {
            let mut pcm = vec![0i16; rate as usize * 5];
            for start_ms in [0u32, 1_000, 2_013, 4_800] {
                let at = (start_ms * rate / 1_000) as usize;
                let beep = tone::sine(1_400.0, -20.0, rate, 200);
                pcm[at..at + beep.len()].copy_from_slice(&beep);
            }
            let bursts = find_bursts(&pcm, rate, 1_400.0);
            assert_eq!(bursts.len(), 4, "{bursts:?}");
            for (burst, start) in bursts.iter().zip([0u32, 1_000, 2_013, 4_800]) {
                assert!(burst.start_ms.abs_diff(start) <= 10, "{burst:?} for {start}");
                assert!(burst.len_ms.abs_diff(200) <= 12, "{burst:?}");
            }
        }
    }

    #[test]
    fn bursts_are_found_under_noise_and_through_g711() {
        let mut pcm = noise(8_000 * 4, 1_600.0, 3);
        for start_ms in [500u32, 2_000, 3_500] {
            let beep = tone::sine(1_400.0, -20.0, 8_000, 200);
            let at = (start_ms * 8) as usize;
            for (s, b) in pcm[at..].iter_mut().zip(&beep) {
                *s = s.saturating_add(*b);
            }
        }
        let pcm: Vec<i16> = pcm.iter().map(|s| g711::pcmu_to_linear(g711::linear_to_pcmu(*s))).collect();
        let bursts = find_bursts(&pcm, 8_000, 1_400.0);
        assert_eq!(bursts.len(), 3, "{bursts:?}");
        for (burst, start) in bursts.iter().zip([500u32, 2_000, 3_500]) {
            assert!(burst.start_ms.abs_diff(start) <= 10, "{burst:?} for {start}");
        }
    }

    #[test]
    fn a_long_tone_is_one_burst() {
        let pcm = tone::sine(1_000.0, -20.0, 8_000, 3_000);
        let bursts = find_bursts(&pcm, 8_000, 1_000.0);
        assert_eq!(bursts.len(), 1);
        assert!(bursts[0].start_ms <= 10 && bursts[0].len_ms.abs_diff(3_000) <= 20, "{bursts:?}");
    }

    #[test]
    fn nothing_is_found_in_nothing() {
        assert_eq!(presence(&[], 8_000, 1_000.0), 0.0);
        assert!(level_dbfs_of(&[], 8_000, 1_000.0) < -100.0);
        assert!(find_bursts(&[0; 100], 8_000, 1_000.0).is_empty());
        assert!(find_bursts(&[0; 100], 0, 1_000.0).is_empty());
    }
}
