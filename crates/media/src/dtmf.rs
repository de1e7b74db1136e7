//! DTMF in the sound itself (ITU-T Q.23, Q.24): the two tones of a digit, and a detector for them.

use crate::detect::tone_power;

const ROWS_HZ: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS_HZ: [f32; 4] = [1_209.0, 1_336.0, 1_477.0, 1_633.0];
const KEYS: [[char; 4]; 4] = [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];

/// Each tone must reach this level.
const FLOOR: f32 = 1e-4; // −40 dBFS
/// How much stronger one of the two tones may be than the other (ratio of powers, 8 dB).
const TWIST: f32 = 6.3;
/// How far the strongest tone of a group must stand above the second (ratio of powers, 10 dB).
const CLEARANCE: f32 = 10.0;
/// The two tones must hold this share of the frame's energy; speech does not.
const PURITY: f32 = 0.6;

/// The tones of a digit, low group first; `None` if it is no digit.
pub fn frequencies(digit: char) -> Option<(f32, f32)> {
    let wanted = digit.to_ascii_uppercase();
    KEYS.iter()
        .zip(ROWS_HZ)
        .find_map(|(row, low)| row.iter().zip(COLUMNS_HZ).find(|(key, _)| **key == wanted).map(|(_, high)| (low, high)))
}

/// A digit that was heard and has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeardDigit {
    pub digit: char,
    /// In whole frames.
    pub duration_ms: u32,
}

/// Finds digits in a stream. A digit counts when it is seen in two frames of 20 ms (Q.24 asks for 40 ms), and is told
/// once, when it ends.
#[derive(Debug, Clone)]
pub struct DtmfDetector {
    rate: u32,
    held: Vec<i16>,
    candidate: Option<char>,
    seen: u32,
    absent: u32,
}

impl DtmfDetector {
    pub fn new(rate: u32) -> Self {
        let held = Vec::with_capacity((rate / 50).max(1) as usize);
        Self { rate, held, candidate: None, seen: 0, absent: 0 }
    }

    /// Takes samples in pieces of any length and hands each digit that has ended to `found`.
    pub fn push(&mut self, samples: &[i16], mut found: impl FnMut(HeardDigit)) {
        let frame = (self.rate / 50).max(1) as usize;
        for sample in samples {
            self.held.push(*sample);
            if self.held.len() >= frame {
                let digit = digit_of(&self.held, self.rate);
                self.held.clear();
                if let Some(ended) = self.judge(digit) {
                    found(ended);
                }
            }
        }
    }

    /// The stream is over: what sounds until now has ended.
    pub fn finish(&mut self) -> Option<HeardDigit> {
        self.held.clear();
        self.end(None)
    }

    fn judge(&mut self, digit: Option<char>) -> Option<HeardDigit> {
        match digit {
            Some(_) if self.candidate == digit => {
                // A gap of one frame (a lost packet) belongs to the digit.
                self.seen += 1 + self.absent;
                self.absent = 0;
                None
            }
            Some(_) => self.end(digit),
            None => {
                self.absent = self.absent.saturating_add(1);
                if self.absent >= 2 { self.end(None) } else { None }
            }
        }
    }

    fn end(&mut self, next: Option<char>) -> Option<HeardDigit> {
        let seen = std::mem::replace(&mut self.seen, u32::from(next.is_some()));
        self.absent = 0;
        let ended = std::mem::replace(&mut self.candidate, next)?;
        (seen >= 2).then_some(HeardDigit { digit: ended, duration_ms: seen * crate::FRAME_MS })
    }
}

/// All digits in a piece of sound.
pub fn digits_in(samples: &[i16], rate: u32) -> String {
    let (mut digits, mut detector) = (String::new(), DtmfDetector::new(rate));
    detector.push(samples, |heard| digits.push(heard.digit));
    digits.extend(detector.finish().map(|heard| heard.digit));
    digits
}

fn digit_of(frame: &[i16], rate: u32) -> Option<char> {
    let (row, low) = strongest(frame, rate, &ROWS_HZ)?;
    let (column, high) = strongest(frame, rate, &COLUMNS_HZ)?;
    if low > high * TWIST || high > low * TWIST {
        return None;
    }
    // Power of a full-scale sine is half of full scale squared.
    let energy: f32 = frame.iter().map(|s| f32::from(*s).powi(2)).sum::<f32>() / frame.len().max(1) as f32;
    let share = (low + high) * 0.5 * 32_767.0 * 32_767.0 / energy.max(1.0);
    if share < PURITY {
        return None;
    }
    KEYS.get(row)?.get(column).copied()
}

fn strongest(frame: &[i16], rate: u32, group: &[f32; 4]) -> Option<(usize, f32)> {
    let powers = group.map(|hz| tone_power(frame, rate, hz));
    let (index, best) = powers.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    // Neighbours within the window's main lobe are allowed to be 4 times weaker only.
    let clear = powers.iter().enumerate().all(|(i, p)| {
        let demanded = if i.abs_diff(index) == 1 { 2.5 } else { CLEARANCE };
        i == index || p * demanded <= best
    });
    (best > FLOOR && clear).then_some((index, best))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{g711, tone};

    fn dial(digits: &str, rate: u32, on_ms: u32, off_ms: u32) -> Vec<i16> {
        let mut pcm = vec![0; (rate / 100) as usize];
        for digit in digits.chars() {
            pcm.extend(tone::dtmf(digit, -12.0, rate, on_ms).unwrap());
            pcm.extend(vec![0; (rate * off_ms / 1_000) as usize]);
        }
        pcm
    }

    #[test]
    fn all_sixteen_digits_are_heard_once_each() {
        let all = "1234567890*#ABCD";
        for rate in [8_000, 48_000] {
            assert_eq!(digits_in(&dial(all, rate, 80, 80), rate), all);
            assert_eq!(digits_in(&dial("1122", rate, 100, 60), rate), "1122");
        }
    }

    #[test]
    fn digits_survive_g711() {
        let pcm: Vec<i16> =
            dial("8005551234#", 8_000, 70, 70).iter().map(|s| g711::pcma_to_linear(g711::linear_to_pcma(*s))).collect();
        assert_eq!(digits_in(&pcm, 8_000), "8005551234#");
    }

    #[test]
    fn a_digit_is_told_when_it_ends_with_its_length() {
        let mut detector = DtmfDetector::new(8_000);
        let mut heard = Vec::new();
        let pcm = dial("5", 8_000, 200, 0);
        detector.push(&pcm, |digit| heard.push(digit));
        assert!(heard.is_empty(), "it sounds on");
        detector.push(&[0; 480], |digit| heard.push(digit));
        assert_eq!(heard.len(), 1);
        assert_eq!(heard[0].digit, '5');
        assert!(heard[0].duration_ms.abs_diff(200) <= 20, "{heard:?}");
    }

    #[test]
    fn speech_like_sound_and_single_tones_are_no_digits() {
        for hz in [697.0, 941.0, 1_209.0, 1_400.0, 440.0] {
            assert_eq!(digits_in(&tone::sine(hz, -10.0, 8_000, 1_000), 8_000), "", "{hz}");
        }
        let mut state = 5u32;
        let noise: Vec<i16> = (0..160_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 18) as i16 - 8_192
            })
            .collect();
        assert_eq!(digits_in(&noise, 8_000), "");
    }
}
