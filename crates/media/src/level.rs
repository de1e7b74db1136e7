//! How loud a frame is, as RFC 6464 wants it written.

use crate::{Codec, g711};

/// The level that says silence (RFC 6464 §3: 0 is the loudest, 127 the quietest).
pub const SILENT: u8 = 127;
/// A frame at or above this level (quieter numbers are larger) is taken for speech when no detector says better.
pub const SPEECH_AT_MOST: u8 = 60;

/// RMS below overload in whole decibels, 0 to 127 (RFC 6464 §3): a full-scale square wave is 0, a sine 3.
pub fn dbov(samples: &[i16]) -> u8 {
    let energy: u64 = samples.iter().map(|s| u64::from(s.unsigned_abs()).pow(2)).sum();
    from_energy(energy, samples.len())
}

/// The same for an encoded G.711 payload; `None` for a codec that cannot be measured without a decoder.
pub fn dbov_of_payload(codec: Codec, payload: &[u8]) -> Option<u8> {
    let decode = match codec {
        Codec::Pcmu => g711::pcmu_to_linear,
        Codec::Pcma => g711::pcma_to_linear,
        Codec::Opus => return None,
    };
    let energy: u64 = payload.iter().map(|b| u64::from(decode(*b).unsigned_abs()).pow(2)).sum();
    Some(from_energy(energy, payload.len()))
}

fn from_energy(energy: u64, count: usize) -> u8 {
    if energy == 0 || count == 0 {
        return SILENT;
    }
    let mean = energy as f64 / count as f64 / (32_768.0 * 32_768.0);
    (-10.0 * mean.log10()).round().clamp(0.0, f64::from(SILENT)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tone;

    #[test]
    fn a_sine_reads_three_decibels_under_its_peak() {
        for (level, expected) in [(0.0, 3), (-20.0, 23), (-40.0, 43)] {
            let pcm = tone::sine(1_000.0, level, 8_000, 20);
            let read = dbov(&tone::sine(1_000.0, level, 8_000, 200)[400..1_200]);
            assert_eq!(read, expected, "{} samples", pcm.len());
        }
    }

    #[test]
    fn silence_is_the_largest_number() {
        assert_eq!(dbov(&[0; 160]), SILENT);
        assert_eq!(dbov(&[]), SILENT);
        assert_eq!(dbov(&[i16::MIN; 160]), 0);
        assert_eq!(dbov_of_payload(Codec::Pcmu, Codec::Pcmu.silence_frame()), Some(SILENT));
    }

    #[test]
    fn an_encoded_payload_reads_like_its_samples() {
        let pcm = tone::sine(1_000.0, -20.0, 8_000, 200);
        let mut bytes = vec![0; pcm.len()];
        g711::encode_pcma(&pcm, &mut bytes);
        assert_eq!(dbov_of_payload(Codec::Pcma, &bytes[400..1_200]), Some(23));
        assert_eq!(dbov_of_payload(Codec::Opus, &bytes), None);
    }
}
