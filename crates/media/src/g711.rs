//! G.711: µ-law and A-law by table (ITU-T G.711 tables 1 and 2).
//!
//! µ-law works on the upper 14 bits of a sample, A-law on the upper 13, so the encoder tables have 16,384 and
//! 8,192 entries and stay in the first-level cache of one core.

/// µ-law byte of a zero sample.
pub const PCMU_SILENCE: u8 = 0xff;
/// A-law byte of the smallest positive sample; A-law has no zero.
pub const PCMA_SILENCE: u8 = 0xd5;

const PCMU_BIAS: i32 = 33;
const PCMU_CLIP: i32 = 0x1fff;

static PCMU_TO_LINEAR: [i16; 256] = pcmu_decode_table();
static PCMA_TO_LINEAR: [i16; 256] = pcma_decode_table();
static LINEAR_TO_PCMU: [u8; 16_384] = pcmu_encode_table();
static LINEAR_TO_PCMA: [u8; 8_192] = pcma_encode_table();

#[inline]
pub fn pcmu_to_linear(byte: u8) -> i16 {
    PCMU_TO_LINEAR[usize::from(byte)]
}

#[inline]
pub fn pcma_to_linear(byte: u8) -> i16 {
    PCMA_TO_LINEAR[usize::from(byte)]
}

#[inline]
pub fn linear_to_pcmu(sample: i16) -> u8 {
    LINEAR_TO_PCMU[usize::from(sample as u16 >> 2)]
}

#[inline]
pub fn linear_to_pcma(sample: i16) -> u8 {
    LINEAR_TO_PCMA[usize::from(sample as u16 >> 3)]
}

/// Decodes as many bytes as both slices hold; returns how many samples were written.
pub fn decode_pcmu(bytes: &[u8], samples: &mut [i16]) -> usize {
    convert(bytes, samples, pcmu_to_linear)
}

/// Decodes as many bytes as both slices hold; returns how many samples were written.
pub fn decode_pcma(bytes: &[u8], samples: &mut [i16]) -> usize {
    convert(bytes, samples, pcma_to_linear)
}

/// Encodes as many samples as both slices hold; returns how many bytes were written.
pub fn encode_pcmu(samples: &[i16], bytes: &mut [u8]) -> usize {
    convert(samples, bytes, linear_to_pcmu)
}

/// Encodes as many samples as both slices hold; returns how many bytes were written.
pub fn encode_pcma(samples: &[i16], bytes: &mut [u8]) -> usize {
    convert(samples, bytes, linear_to_pcma)
}

#[inline]
fn convert<A: Copy, B>(from: &[A], to: &mut [B], each: impl Fn(A) -> B) -> usize {
    for (target, source) in to.iter_mut().zip(from) {
        *target = each(*source);
    }
    from.len().min(to.len())
}

const fn pcmu_decode_table() -> [i16; 256] {
    let mut table = [0i16; 256];
    let mut byte = 0;
    while byte < 256 {
        let code = !(byte as i32) & 0xff;
        let (exponent, mantissa) = ((code >> 4) & 7, code & 0xf);
        let magnitude = ((((mantissa << 1) + PCMU_BIAS) << exponent) - PCMU_BIAS) << 2;
        table[byte] = if code & 0x80 == 0 { magnitude as i16 } else { -magnitude as i16 };
        byte += 1;
    }
    table
}

const fn pcmu_encode_table() -> [u8; 16_384] {
    let mut table = [0u8; 16_384];
    let mut index = 0;
    while index < table.len() {
        let sample = ((index as u16) << 2) as i16 as i32 >> 2;
        let negative = sample < 0;
        let mut magnitude = (if negative { !sample } else { sample }) + PCMU_BIAS;
        if magnitude > PCMU_CLIP {
            magnitude = PCMU_CLIP;
        }
        let exponent = 26 - magnitude.leading_zeros() as i32;
        let mantissa = (magnitude >> (exponent + 1)) & 0xf;
        let code = (if negative { 0x80 } else { 0 }) | (exponent << 4) | mantissa;
        table[index] = !(code as u8);
        index += 1;
    }
    table
}

const fn pcma_decode_table() -> [i16; 256] {
    let mut table = [0i16; 256];
    let mut byte = 0;
    while byte < 256 {
        let code = byte as i32 ^ 0x55;
        let (exponent, mantissa) = ((code >> 4) & 7, code & 0xf);
        let magnitude = if exponent == 0 { (mantissa << 4) + 8 } else { ((mantissa << 4) + 0x108) << (exponent - 1) };
        table[byte] = if code & 0x80 != 0 { magnitude as i16 } else { -magnitude as i16 };
        byte += 1;
    }
    table
}

const fn pcma_encode_table() -> [u8; 8_192] {
    let mut table = [0u8; 8_192];
    let mut index = 0;
    while index < table.len() {
        // Twelve magnitude bits; a negative value is mirrored by its one's complement.
        let sample = ((index as u16) << 3) as i16 as i32 >> 4;
        let negative = sample < 0;
        let magnitude = if negative { !sample } else { sample };
        let code = if magnitude < 16 {
            magnitude
        } else {
            let exponent = 28 - magnitude.leading_zeros() as i32;
            (exponent << 4) | ((magnitude >> (exponent - 1)) & 0xf)
        };
        let signed = if negative { code } else { code | 0x80 };
        table[index] = (signed ^ 0x55) as u8;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end points of the eight segments as the recommendation's tables print them (scaled to 16 bits).
    #[test]
    fn segment_ends_decode_to_the_printed_values() {
        for (code, value) in [
            (0xff, 0),
            (0xfe, 8),
            (0xf0, 120),
            (0xef, 132),
            (0xdf, 396),
            (0xcf, 924),
            (0xbf, 1980),
            (0xaf, 4092),
            (0x9f, 8316),
            (0x8f, 16764),
            (0x80, 32124),
            (0x00, -32124),
        ] {
            assert_eq!(pcmu_to_linear(code), value, "µ-law {code:#04x}");
        }
        for (code, value) in [
            (0xd5, 8),
            (0x55, -8),
            (0xda, 248),
            (0xc5, 264),
            (0xf5, 528),
            (0xe5, 1056),
            (0x95, 2112),
            (0xaa, 32256),
            (0x2a, -32256),
        ] {
            assert_eq!(pcma_to_linear(code), value, "A-law {code:#04x}");
        }
    }

    #[test]
    fn every_code_survives_decode_and_encode() {
        for byte in 0..=255u8 {
            assert_eq!(linear_to_pcma(pcma_to_linear(byte)), byte, "A-law {byte:#04x}");
            // µ-law has two zeros; the negative one becomes the positive one.
            let expected = if byte == 0x7f { 0xff } else { byte };
            assert_eq!(linear_to_pcmu(pcmu_to_linear(byte)), expected, "µ-law {byte:#04x}");
        }
    }

    /// The compression error never exceeds half a quantisation step of the segment the sample lies in.
    #[test]
    fn every_sample_comes_back_within_half_a_step() {
        for sample in i16::MIN..=i16::MAX {
            let size = i32::from(sample).abs();
            let mu = (i32::from(pcmu_to_linear(linear_to_pcmu(sample))) - i32::from(sample)).abs();
            let mu_step = 8 << (((size + 132).min(32_767) >> 7) as u32).ilog2();
            assert!(mu <= mu_step / 2 + 4 || size > 32_124, "µ-law {sample}: {mu} of {mu_step}");
            let a = (i32::from(pcma_to_linear(linear_to_pcma(sample))) - i32::from(sample)).abs();
            let a_step = if size < 256 { 16 } else { 16 << ((size.min(32_767) >> 8) as u32).ilog2() };
            assert!(a <= a_step / 2 + 8 || size > 32_256, "A-law {sample}: {a} of {a_step}");
        }
    }

    #[test]
    fn encoding_never_decreases_with_the_sample() {
        let mut last = (i16::MIN, i16::MIN);
        for sample in i16::MIN..=i16::MAX {
            let now = (pcmu_to_linear(linear_to_pcmu(sample)), pcma_to_linear(linear_to_pcma(sample)));
            assert!(now.0 >= last.0 && now.1 >= last.1, "at {sample}");
            last = now;
        }
    }

    #[test]
    fn silence_bytes_are_the_codes_of_zero() {
        assert_eq!(linear_to_pcmu(0), PCMU_SILENCE);
        assert_eq!(linear_to_pcma(0), PCMA_SILENCE);
        let mut samples = [1i16; 4];
        assert_eq!(decode_pcmu(&[PCMU_SILENCE; 3], &mut samples), 3);
        assert_eq!(samples, [0, 0, 0, 1]);
    }
}
