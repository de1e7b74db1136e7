//! Making tones: sines with soft edges, beeps, DTMF.

use std::f32::consts::TAU;

/// Rise and fall of every tone, against clicks.
pub const RAMP_MS: u32 = 5;

/// A consent beep: what is played, not when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BeepSpec {
    pub frequency_hz: f32,
    pub duration_ms: u32,
    /// Peak of the sine under full scale.
    pub level_dbfs: f32,
}

impl Default for BeepSpec {
    /// The recorder tone most networks are configured with: 1400 Hz; 200 ms of it.
    fn default() -> Self {
        Self { frequency_hz: 1_400.0, duration_ms: 200, level_dbfs: -20.0 }
    }
}

/// The peak amplitude of a sine at `level_dbfs`.
pub fn amplitude(level_dbfs: f32) -> f32 {
    32_767.0 * 10f32.powf(level_dbfs.min(0.0) / 20.0)
}

/// `ms` of a sine with ramps at both ends.
pub fn sine(hz: f32, level_dbfs: f32, rate: u32, ms: u32) -> Vec<i16> {
    sum_of(&[(hz, level_dbfs)], rate, ms)
}

/// The samples of a beep.
pub fn beep(spec: &BeepSpec, rate: u32) -> Vec<i16> {
    sine(spec.frequency_hz, spec.level_dbfs, rate, spec.duration_ms)
}

/// `ms` of a DTMF digit at `level_dbfs` for each of its two tones; `None` if it is no digit.
pub fn dtmf(digit: char, level_dbfs: f32, rate: u32, ms: u32) -> Option<Vec<i16>> {
    let (low, high) = crate::dtmf::frequencies(digit)?;
    Some(sum_of(&[(low, level_dbfs), (high, level_dbfs)], rate, ms))
}

fn sum_of(tones: &[(f32, f32)], rate: u32, ms: u32) -> Vec<i16> {
    let count = (u64::from(rate) * u64::from(ms) / 1_000) as usize;
    let mut sum = vec![0f32; count];
    for (hz, level) in tones {
        let mut source = Sine::new(*hz, *level, rate);
        sum.iter_mut().for_each(|s| *s += source.next_sample());
    }
    let ramp = (rate * RAMP_MS / 1_000) as usize;
    for (i, s) in sum.iter_mut().enumerate() {
        let edge = i.min(count - 1 - i);
        if edge < ramp {
            *s *= (edge as f32 + 0.5) / ramp as f32;
        }
    }
    sum.into_iter().map(to_sample).collect()
}

fn to_sample(value: f32) -> i16 {
    value.round().clamp(-32_767.0, 32_767.0) as i16
}

/// An endless sine whose phase runs on from frame to frame.
#[derive(Debug, Clone)]
pub struct Sine {
    phase: f64,
    step: f64,
    amplitude: f32,
}

impl Sine {
    pub fn new(hz: f32, level_dbfs: f32, rate: u32) -> Self {
        Self { phase: 0.0, step: f64::from(hz) / f64::from(rate.max(1)), amplitude: amplitude(level_dbfs) }
    }

    pub fn next_sample(&mut self) -> f32 {
        let value = (self.phase as f32 * TAU).sin() * self.amplitude;
        self.phase = (self.phase + self.step).fract();
        value
    }

    /// Fills a frame.
    pub fn fill(&mut self, out: &mut [i16]) {
        out.iter_mut().for_each(|s| *s = to_sample(self.next_sample()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect;

    #[test]
    fn a_tone_has_the_level_length_and_pitch_asked_for() {
        for rate in [8_000u32, 16_000, 48_000] {
            let pcm = sine(1_400.0, -20.0, rate, 200);
            assert_eq!(pcm.len(), rate as usize / 5);
            let middle = &pcm[rate as usize / 50..pcm.len() - rate as usize / 50];
            assert!((detect::level_dbfs_of(middle, rate, 1_400.0) + 20.0).abs() < 0.2);
            let pitch = detect::frequency_near(middle, rate, 1_400.0, 60.0);
            assert!((pitch - 1_400.0).abs() < 3.0, "{pitch}");
        }
    }

    #[test]
    fn edges_rise_without_a_click() {
        let pcm = beep(&BeepSpec::default(), 48_000);
        assert!(pcm[0].abs() < 10 && pcm[pcm.len() - 1].abs() < 10);
        let jump = pcm.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap();
        assert!(jump < 700, "{jump}");
    }

    #[test]
    fn a_running_sine_keeps_its_phase_over_frames() {
        let mut source = Sine::new(440.0, -10.0, 8_000);
        let mut pcm = vec![0; 8_000];
        pcm.chunks_mut(160).for_each(|frame| source.fill(frame));
        assert!((detect::level_dbfs_of(&pcm, 8_000, 440.0) + 10.0).abs() < 0.1);
    }

    #[test]
    fn lengths_of_nothing_are_harmless() {
        assert!(sine(1_000.0, -20.0, 8_000, 0).is_empty());
        assert_eq!(dtmf('x', -10.0, 8_000, 100), None);
    }
}
