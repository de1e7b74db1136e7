//! Adding voices: a sum in 32 bits and a soft limiter, so loud moments bend instead of breaking.

/// Below this the limiter does nothing (about −3 dBFS); above, the curve bends towards full scale and never reaches it.
const KNEE: i32 = 23_170;
const ROOM: i32 = 32_767 - KNEE;

/// The most samples one frame may have: 120 ms at 48 kHz.
pub const MAX_FRAME: usize = 5_760;

/// Collects the voices of one tick, then writes everyone's mix. Allocates once, when made.
#[derive(Debug)]
pub struct Mixer {
    sum: Box<[i32]>,
    len: usize,
    voices: usize,
}

impl Mixer {
    /// A mixer for frames of up to `samples` samples.
    pub fn new(samples: usize) -> Self {
        Self { sum: vec![0; samples.min(MAX_FRAME)].into_boxed_slice(), len: 0, voices: 0 }
    }

    /// Starts a tick of `samples` samples.
    pub fn begin(&mut self, samples: usize) {
        self.len = samples.min(self.sum.len());
        self.sum.iter_mut().take(self.len).for_each(|s| *s = 0);
        self.voices = 0;
    }

    /// Adds a voice; a shorter one is followed by silence, a longer one is cut.
    pub fn add(&mut self, voice: &[i16]) {
        for (sum, sample) in self.sum.iter_mut().take(self.len).zip(voice) {
            *sum = sum.saturating_add(i32::from(*sample));
        }
        self.voices += 1;
    }

    /// How many voices this tick has.
    pub const fn voices(&self) -> usize {
        self.voices
    }

    /// Writes the sum of all voices.
    pub fn write(&self, out: &mut [i16]) {
        for (target, sum) in out.iter_mut().zip(self.sum.iter().take(self.len)) {
            *target = limit(*sum);
        }
    }

    /// Writes the sum without `own`, which must have been added before: what its speaker hears.
    pub fn write_minus(&self, own: &[i16], out: &mut [i16]) {
        let own = own.iter().copied().chain(std::iter::repeat(0));
        for ((target, sum), own) in out.iter_mut().zip(self.sum.iter().take(self.len)).zip(own) {
            *target = limit(sum.saturating_sub(i32::from(own)));
        }
    }
}

/// Mixes frames into `out`, which sets the length.
pub fn mix(frames: &[&[i16]], out: &mut [i16]) {
    for (i, target) in out.iter_mut().enumerate() {
        let sum = frames.iter().filter_map(|f| f.get(i)).fold(0i32, |sum, s| sum.saturating_add(i32::from(*s)));
        *target = limit(sum);
    }
}

/// The soft limiter: the identity up to the knee, then `knee + room·x / (room + x)` of what is above.
#[inline]
pub fn limit(sum: i32) -> i16 {
    let size = sum.saturating_abs();
    if size <= KNEE {
        return sum as i16;
    }
    let above = i64::from(size - KNEE);
    let bent = i64::from(KNEE) + i64::from(ROOM) * above / (i64::from(ROOM) + above);
    (if sum < 0 { -bent } else { bent }) as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{detect, tone};

    #[test]
    fn quiet_voices_add_exactly_and_loud_ones_bend() {
        let mut out = [0i16; 3];
        mix(&[&[100, -100, 20_000], &[5, 5, 20_000]], &mut out);
        assert_eq!(out[..2], [105, -95]);
        assert!(out[2] > 23_170 && out[2] < 32_767, "{}", out[2]);
    }

    #[test]
    fn the_limiter_rises_evenly_and_never_wraps() {
        let mut last = i16::MIN;
        for sum in (-600_000..600_000).step_by(7) {
            let now = limit(sum);
            assert!(now >= last, "at {sum}");
            assert_eq!(i32::from(limit(-sum)), -i32::from(now));
            last = now;
        }
        assert!(limit(i32::MAX) > 32_700);
        assert!(limit(i32::MIN) < -32_700);
    }

    #[test]
    fn everyone_hears_the_others_and_not_themselves() {
        let voices: Vec<_> = [400.0, 800.0, 1_200.0].map(|hz| tone::sine(hz, -20.0, 8_000, 400)).into_iter().collect();
        let mut mixer = Mixer::new(voices[0].len());
        mixer.begin(voices[0].len());
        voices.iter().for_each(|v| mixer.add(v));
        assert_eq!(mixer.voices(), 3);
        let mut out = vec![0; voices[0].len()];
        mixer.write_minus(&voices[1], &mut out);
        let level = |hz| detect::level_dbfs_of(&out, 8_000, hz);
        assert!((level(400.0) + 20.0).abs() < 0.5 && (level(1_200.0) + 20.0).abs() < 0.5);
        assert!(level(800.0) < -70.0, "{}", level(800.0));
    }

    #[test]
    fn voices_of_other_lengths_are_cut_or_padded() {
        let mut mixer = Mixer::new(4);
        mixer.begin(3);
        mixer.add(&[1]);
        mixer.add(&[1, 1, 1, 1, 1]);
        let mut out = [9; 4];
        mixer.write(&mut out);
        assert_eq!(out, [2, 1, 1, 9]);
    }
}
