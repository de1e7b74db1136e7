//! Changing the sample rate between 8, 16, 24 and 48 kHz: a polyphase low-pass (windowed sinc, Kaiser), streaming.
//!
//! The pass band reaches 85 % of the lower Nyquist frequency (3.4 kHz for 8 kHz); from there on everything that would
//! fold back is down by more than 60 dB.

use std::f64::consts::PI;

#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("cannot resample {from_hz} Hz to {to_hz} Hz: rates are 8, 16, 24 and 48 kHz")]
pub struct UnsupportedRates {
    pub from_hz: u32,
    pub to_hz: u32,
}

const STOP_DB: f64 = 70.0;
/// Width of the transition, in parts of the lower sample rate.
const TRANSITION: f64 = 0.075;

/// One stream's resampler; allocates when made and when its output vector grows.
#[derive(Debug, Clone)]
pub struct Resampler {
    /// Taps by phase, each reversed so that a phase is one dot product.
    phases: Vec<Box<[f32]>>,
    /// The last `taps - 1` input samples followed by the piece at work.
    history: Vec<f32>,
    up: usize,
    down: usize,
    /// Position of the next output on the up-sampled time line, relative to the next input.
    position: usize,
}

impl Resampler {
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, UnsupportedRates> {
        let known = |rate| matches!(rate, 8_000 | 16_000 | 24_000 | 48_000);
        if !known(from_hz) || !known(to_hz) {
            return Err(UnsupportedRates { from_hz, to_hz });
        }
        let divisor = gcd(from_hz, to_hz);
        let (up, down) = ((to_hz / divisor) as usize, (from_hz / divisor) as usize);
        let phases = if up == down { vec![vec![1.0f32].into()] } else { design(up, down) };
        let taps = phases.first().map_or(1, |p| p.len());
        Ok(Self { phases, history: vec![0.0; taps - 1], up, down, position: 0 })
    }

    /// Half the filter's length, in input samples: how far the output lags.
    pub fn delay_input_samples(&self) -> usize {
        self.phases.first().map_or(0, |p| p.len() / 2)
    }

    /// Resamples a piece, appending to `out`.
    pub fn process(&mut self, input: &[i16], out: &mut Vec<i16>) {
        let taps = self.phases.first().map_or(1, |p| p.len());
        self.history.extend(input.iter().map(|s| f32::from(*s)));
        out.reserve(input.len() * self.up / self.down + 1);
        let available = self.history.len() + 1 - taps;
        while self.position / self.up < available {
            let (at, phase) = (self.position / self.up, self.position % self.up);
            let sum = match (self.phases.get(phase), self.history.get(at..at + taps)) {
                (Some(phase), Some(window)) => phase.iter().zip(window).map(|(c, s)| c * s).sum::<f32>(),
                _ => 0.0,
            };
            out.push(sum.round().clamp(-32_768.0, 32_767.0) as i16);
            self.position += self.down;
        }
        self.position -= available * self.up;
        self.history.drain(..available);
    }
}

/// Resamples a whole sound, with the filter's delay taken out and the length kept.
pub fn resample_all(samples: &[i16], from_hz: u32, to_hz: u32) -> Result<Vec<i16>, UnsupportedRates> {
    let mut resampler = Resampler::new(from_hz, to_hz)?;
    if from_hz == to_hz {
        return Ok(samples.to_vec());
    }
    let lag = resampler.delay_input_samples();
    let mut out = Vec::new();
    resampler.process(samples, &mut out);
    resampler.process(&vec![0; lag + 1], &mut out);
    let skip = lag * resampler.up / resampler.down;
    let length = samples.len() * resampler.up / resampler.down;
    Ok(out.into_iter().skip(skip).chain(std::iter::repeat(0)).take(length).collect())
}

const fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn design(up: usize, down: usize) -> Vec<Box<[f32]>> {
    // Everything in parts of the up-sampled rate, on which the lower of the two rates is 1 / max(up, down).
    let lower = 1.0 / up.max(down) as f64;
    let transition = TRANSITION * lower;
    let cutoff = 0.5 * lower - transition / 2.0;
    // Kaiser's formulas for the length and the shape.
    let length = ((STOP_DB - 7.95) / (14.36 * transition)).ceil() as usize;
    let per_phase = length.div_ceil(up) | 1;
    let total = per_phase * up;
    let beta = 0.1102 * (STOP_DB - 8.7);
    let centre = (per_phase / 2 * up) as f64;
    let tap = |n: usize| {
        let x = n as f64 - centre;
        let sinc = if x == 0.0 { 2.0 * cutoff } else { (2.0 * PI * cutoff * x).sin() / (PI * x) };
        let reach = (x / (total as f64 / 2.0)).powi(2);
        let window = if reach >= 1.0 { 0.0 } else { bessel0(beta * (1.0 - reach).sqrt()) / bessel0(beta) };
        sinc * window
    };
    let taps: Vec<f64> = (0..total).map(tap).collect();
    (0..up)
        .map(|phase| {
            let own: Vec<f64> = taps.iter().skip(phase).step_by(up).copied().collect();
            // Each phase passes a constant unchanged, so no phase is louder than another.
            let sum: f64 = own.iter().sum();
            own.iter().rev().map(|c| (c / sum) as f32).collect()
        })
        .collect()
}

/// The modified Bessel function of the first kind, order zero, by its series.
fn bessel0(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..60 {
        term *= (x / (2.0 * f64::from(k))).powi(2);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{detect, tone};

    const RATES: [u32; 4] = [8_000, 16_000, 24_000, 48_000];

    #[test]
    fn tones_in_the_pass_band_keep_their_level() {
        for from in RATES {
            for to in RATES {
                for part in [0.05, 0.2, 0.4] {
                    let hz = part * from.min(to) as f32;
                    let out = resample_all(&tone::sine(hz, -12.0, from, 500), from, to).unwrap();
                    assert_eq!(out.len(), to as usize / 2);
                    let level = detect::level_dbfs_of(&out[out.len() / 10..out.len() * 9 / 10], to, hz);
                    assert!((level + 12.0).abs() < 0.3, "{hz} Hz, {from} to {to}: {level}");
                }
            }
        }
    }

    #[test]
    fn what_would_fold_back_is_fifty_decibels_down() {
        for (from, to) in [(48_000u32, 8_000u32), (48_000, 16_000), (16_000, 8_000), (24_000, 16_000)] {
            let nyquist = to as f32 / 2.0;
            for over in [1.02, 1.2, 1.4] {
                let hz = nyquist * over;
                if hz >= from as f32 / 2.0 {
                    continue;
                }
                let out = resample_all(&tone::sine(hz, -6.0, from, 500), from, to).unwrap();
                let middle = &out[out.len() / 4..out.len() * 3 / 4];
                let alias = detect::level_dbfs_of(middle, to, to as f32 - hz);
                assert!(alias < -6.0 - 50.0, "{hz} Hz, {from} to {to}: {alias}");
            }
        }
    }

    #[test]
    fn images_are_fifty_decibels_down_on_the_way_up() {
        let out = resample_all(&tone::sine(3_000.0, -6.0, 8_000, 500), 8_000, 48_000).unwrap();
        let middle = &out[out.len() / 4..out.len() * 3 / 4];
        for image in [5_000.0, 11_000.0, 13_000.0, 19_000.0, 21_000.0] {
            let level = detect::level_dbfs_of(middle, 48_000, image);
            assert!(level < -56.0, "{image}: {level}");
        }
    }

    #[test]
    fn pieces_give_the_same_as_the_whole() {
        let pcm = tone::sine(700.0, -10.0, 16_000, 300);
        for to in RATES {
            let (mut whole, mut pieces) = (Vec::new(), Vec::new());
            Resampler::new(16_000, to).unwrap().process(&pcm, &mut whole);
            let mut streaming = Resampler::new(16_000, to).unwrap();
            pcm.chunks(53).for_each(|piece| streaming.process(piece, &mut pieces));
            assert_eq!(whole, pieces, "to {to}");
            assert_eq!(whole.len(), pcm.len() * to as usize / 16_000);
        }
    }

    #[test]
    fn other_rates_are_refused() {
        assert!(Resampler::new(44_100, 8_000).is_err());
        assert!(resample_all(&[0; 10], 8_000, 11_025).is_err());
        assert_eq!(resample_all(&[1, 2, 3], 8_000, 8_000).unwrap(), [1, 2, 3]);
    }
}
