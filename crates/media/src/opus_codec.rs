//! Opus, mono, through libopus; and the length of a packet read from its first bytes (RFC 6716 §3).

/// The longest packet allowed: 120 ms at 48 kHz (RFC 6716 §3.2.5, rule R5).
pub const MAX_PACKET_TICKS: u32 = 5_760;
/// A single Opus frame has at most 1,275 bytes (RFC 6716 §3.4, R2); a buffer of this size takes any 20 ms packet.
pub const MAX_FRAME_BYTES: usize = 1_276;

#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum OpusError {
    #[error("Opus works at 8, 12, 16, 24 or 48 kHz, not at {0} Hz")]
    Rate(u32),
    #[error("the Opus packet is malformed")]
    Malformed,
    #[error("the output buffer is too small")]
    BufferTooSmall,
    #[error("{samples} samples are no Opus frame at {rate} Hz")]
    FrameLength { samples: usize, rate: u32 },
    #[error("the Opus codec failed: {0}")]
    Codec(&'static str),
}

fn named(error: opus::Error) -> OpusError {
    match error.code() {
        opus::ErrorCode::BufferTooSmall => OpusError::BufferTooSmall,
        opus::ErrorCode::InvalidPacket => OpusError::Malformed,
        _ => OpusError::Codec(error.description()),
    }
}

/// Decodes one stream at the rate its listener needs: 8 kHz for a telephone costs a quarter of 48 kHz.
pub struct OpusDecoder {
    inner: opus::Decoder,
    rate: u32,
}

impl std::fmt::Debug for OpusDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpusDecoder").field("rate", &self.rate).finish_non_exhaustive()
    }
}

impl OpusDecoder {
    pub fn new(rate: u32) -> Result<Self, OpusError> {
        check_rate(rate)?;
        let inner = opus::Decoder::new(rate, opus::Channels::Mono).map_err(named)?;
        Ok(Self { inner, rate })
    }

    pub const fn rate(&self) -> u32 {
        self.rate
    }

    /// Decodes a packet; returns the samples written. A DTX packet (TOC byte alone) gives comfort noise or silence.
    pub fn decode(&mut self, packet: &[u8], out: &mut [i16]) -> Result<usize, OpusError> {
        let ticks = packet_ticks(packet).ok_or(OpusError::Malformed)?;
        let samples = (u64::from(ticks) * u64::from(self.rate) / 48_000) as usize;
        let room = out.get_mut(..samples).ok_or(OpusError::BufferTooSmall)?;
        self.inner.decode(packet, room, false).map_err(named)
    }

    /// Fills `out` (a multiple of 2.5 ms, at most 120 ms) with the decoder's guess at a lost packet.
    pub fn decode_lost(&mut self, out: &mut [i16]) -> Result<usize, OpusError> {
        let unit = self.rate as usize / 400;
        if out.is_empty() || !out.len().is_multiple_of(unit) || out.len() > unit * 48 {
            return Err(OpusError::FrameLength { samples: out.len(), rate: self.rate });
        }
        self.inner.decode(&[], out, false).map_err(named)
    }

    /// Forgets the stream decoded so far: the next packet is the first of another.
    pub fn reset(&mut self) -> Result<(), OpusError> {
        self.inner.reset_state().map_err(named)
    }
}

/// Encodes one mono stream of speech.
pub struct OpusEncoder {
    inner: opus::Encoder,
    rate: u32,
}

impl std::fmt::Debug for OpusEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpusEncoder").field("rate", &self.rate).finish_non_exhaustive()
    }
}

impl OpusEncoder {
    /// `complexity` 0 to 10, `bitrate` in bit/s.
    pub fn new(rate: u32, complexity: u8, bitrate: u32) -> Result<Self, OpusError> {
        check_rate(rate)?;
        let mut inner = opus::Encoder::new(rate, opus::Channels::Mono, opus::Application::Voip).map_err(named)?;
        inner.set_complexity(i32::from(complexity.min(10))).map_err(named)?;
        let bits = i32::try_from(bitrate.clamp(6_000, 510_000)).unwrap_or(510_000);
        inner.set_bitrate(opus::Bitrate::Bits(bits)).map_err(named)?;
        Ok(Self { inner, rate })
    }

    pub const fn rate(&self) -> u32 {
        self.rate
    }

    /// Encodes one frame of 2.5, 5, 10, 20, 40 or 60 ms; returns the bytes written.
    pub fn encode(&mut self, samples: &[i16], out: &mut [u8]) -> Result<usize, OpusError> {
        let unit = self.rate as usize / 400;
        if ![1, 2, 4, 8, 16, 24].iter().any(|n| n * unit == samples.len()) {
            return Err(OpusError::FrameLength { samples: samples.len(), rate: self.rate });
        }
        self.inner.encode(samples, out).map_err(named)
    }

    pub fn reset(&mut self) -> Result<(), OpusError> {
        self.inner.reset_state().map_err(named)
    }
}

fn check_rate(rate: u32) -> Result<(), OpusError> {
    if matches!(rate, 8_000 | 12_000 | 16_000 | 24_000 | 48_000) { Ok(()) } else { Err(OpusError::Rate(rate)) }
}

/// Ticks at 48 kHz of one frame of the configuration in a TOC byte (RFC 6716 §3.1, table 2).
pub const fn frame_ticks(toc: u8) -> u32 {
    let config = toc >> 3;
    match config {
        0..=11 => match config & 3 {
            0 => 480,
            1 => 960,
            2 => 1_920,
            _ => 2_880,
        },
        12..=15 => {
            if config & 1 == 0 {
                480
            } else {
                960
            }
        }
        _ => 120 << (config & 3),
    }
}

/// Ticks at 48 kHz of a whole packet, from its TOC byte and frame count byte; `None` if it is no Opus packet.
pub fn packet_ticks(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    // The two low bits say how many frames follow (RFC 6716 §3.2).
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    let ticks = frame_ticks(toc) * frames;
    (1..=MAX_PACKET_TICKS).contains(&ticks).then_some(ticks)
}

/// Whether the packet says "nothing to hear": a DTX packet has at most one byte of data after its TOC.
pub fn is_dtx(packet: &[u8]) -> bool {
    packet.len() <= 2 && !packet.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{detect, tone};

    fn coded_tone(rate: u32, bitrate: u32, hz: f32) -> Vec<Vec<u8>> {
        let pcm = tone::sine(hz, -14.0, rate, 1_000);
        let mut encoder = OpusEncoder::new(rate, 5, bitrate).unwrap();
        let mut out = [0u8; MAX_FRAME_BYTES];
        pcm.chunks_exact(rate as usize / 50)
            .map(|frame| {
                let used = encoder.encode(frame, &mut out).unwrap();
                out[..used].to_vec()
            })
            .collect()
    }

    #[test]
    fn a_tone_survives_every_pair_of_rates() {
        for (encode_rate, bitrate) in [(48_000, 32_000), (16_000, 24_000), (8_000, 16_000)] {
            let packets = coded_tone(encode_rate, bitrate, 1_000.0);
            for rate in [8_000u32, 16_000, 48_000] {
                let mut decoder = OpusDecoder::new(rate).unwrap();
                let mut heard = Vec::new();
                let mut pcm = [0i16; 5_760];
                for packet in &packets {
                    let n = decoder.decode(packet, &mut pcm).unwrap();
                    assert_eq!(n, rate as usize / 50);
                    heard.extend_from_slice(&pcm[..n]);
                }
                let settled = &heard[rate as usize / 20..];
                assert!(detect::presence(settled, rate, 1_000.0) > 0.99, "{encode_rate} to {rate}");
                let level = detect::level_dbfs_of(settled, rate, 1_000.0);
                assert!((level + 14.0).abs() < 1.5, "{encode_rate} to {rate}: {level} dBFS");
            }
        }
    }

    #[test]
    fn a_lost_packet_is_filled_with_something_like_the_last() {
        let packets = coded_tone(48_000, 32_000, 600.0);
        let mut decoder = OpusDecoder::new(8_000).unwrap();
        let mut pcm = [0i16; 160];
        for packet in &packets[..20] {
            decoder.decode(packet, &mut pcm).unwrap();
        }
        assert_eq!(decoder.decode_lost(&mut pcm).unwrap(), 160);
        assert!(detect::level_dbfs_of(&pcm, 8_000, 600.0) > -24.0);
        assert!(matches!(decoder.decode_lost(&mut pcm[..7]), Err(OpusError::FrameLength { .. })));
    }

    #[test]
    fn a_dtx_packet_decodes_to_a_quiet_frame() {
        let mut decoder = OpusDecoder::new(48_000).unwrap();
        let mut pcm = [0i16; 960];
        assert!(is_dtx(&[0x78]));
        assert_eq!(decoder.decode(&[0x78], &mut pcm).unwrap(), 960);
        assert!(pcm.iter().all(|s| s.abs() < 100));
    }

    #[test]
    fn packet_lengths_follow_the_table_of_configurations() {
        for (config, ticks) in [(0u8, 480), (1, 960), (2, 1_920), (3, 2_880), (11, 2_880), (12, 480), (15, 960)] {
            assert_eq!(packet_ticks(&[config << 3, 0]), Some(ticks), "config {config}");
        }
        for (config, ticks) in [(16u8, 120), (17, 240), (18, 480), (19, 960), (28, 120), (31, 960)] {
            assert_eq!(packet_ticks(&[config << 3, 0]), Some(ticks), "config {config}");
        }
        assert_eq!(packet_ticks(&[(31 << 3) | 1, 0, 0]), Some(1_920));
        assert_eq!(packet_ticks(&[(31 << 3) | 3, 3]), Some(2_880));
        assert_eq!(packet_ticks(&[(31 << 3) | 3, 0]), None, "no frames");
        assert_eq!(packet_ticks(&[(3 << 3) | 3, 3]), None, "180 ms");
        assert_eq!(packet_ticks(&[(3 << 3) | 3]), None, "count byte missing");
    }

    #[test]
    fn our_length_agrees_with_libopus() {
        for toc in 0..=255u8 {
            let packet = [toc, 2, 0, 0, 0];
            let theirs = opus::packet::get_nb_samples(&packet, 48_000).ok().map(|n| n as u32);
            assert_eq!(packet_ticks(&packet), theirs, "toc {toc:#04x}");
        }
    }

    #[test]
    fn garbage_is_refused_with_a_name() {
        let mut decoder = OpusDecoder::new(8_000).unwrap();
        let mut pcm = [0i16; 960];
        assert_eq!(decoder.decode(&[], &mut pcm), Err(OpusError::Malformed));
        assert_eq!(decoder.decode(&[0xfb, 0x00], &mut pcm), Err(OpusError::Malformed));
        assert_eq!(decoder.decode(&[0x79, 1, 2, 3], &mut pcm), Err(OpusError::Malformed), "two unequal halves");
        assert_eq!(decoder.decode(&[0xf8, 0xff, 0xfe], &mut pcm[..10]), Err(OpusError::BufferTooSmall));
        assert!(matches!(OpusDecoder::new(44_100), Err(OpusError::Rate(44_100))));
        let mut state = 1u32;
        for _ in 0..2_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let bytes: Vec<u8> = (0..state % 60).map(|i| (state.rotate_left(i % 32) >> 7) as u8).collect();
            let _ = decoder.decode(&bytes, &mut pcm);
        }
    }
}
