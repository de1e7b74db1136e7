//! The codecs a party may speak, and what RTP needs to know of each.

use crate::g711::{PCMA_SILENCE, PCMU_SILENCE};

/// An audio codec on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    Opus,
    Pcmu,
    Pcma,
}

/// A 20 ms CELT frame of a mono stream whose one flag says "silence" (RFC 6716 §4.3).
/// Tests hold it against libopus: it is silent on its own and ends a running SILK or CELT stream within three frames.
const OPUS_SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];
static PCMU_SILENCE_FRAME: [u8; 160] = [PCMU_SILENCE; 160];
static PCMA_SILENCE_FRAME: [u8; 160] = [PCMA_SILENCE; 160];

impl Codec {
    pub const ALL: [Self; 3] = [Self::Opus, Self::Pcmu, Self::Pcma];

    /// The RTP timestamp clock (RFC 7587 §4.1: always 48 kHz for Opus).
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Pcmu | Self::Pcma => 8_000,
        }
    }

    /// The payload type fixed by RFC 3551 §6, for those that have one.
    pub const fn static_payload_type(self) -> Option<u8> {
        match self {
            Self::Opus => None,
            Self::Pcmu => Some(0),
            Self::Pcma => Some(8),
        }
    }

    /// RTP ticks in a frame of 20 ms.
    pub const fn samples_per_20ms(self) -> u32 {
        self.clock_rate() / 50
    }

    /// The name in `a=rtpmap`.
    pub const fn encoding_name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }

    /// 20 ms of encoded silence.
    pub fn silence_frame(self) -> &'static [u8] {
        match self {
            Self::Opus => &OPUS_SILENCE,
            Self::Pcmu => &PCMU_SILENCE_FRAME,
            Self::Pcma => &PCMA_SILENCE_FRAME,
        }
    }

    /// How long a payload lasts, in RTP ticks of this codec, without decoding it; `None` if it is no payload of it.
    pub fn payload_ticks(self, payload: &[u8]) -> Option<u32> {
        match self {
            Self::Opus => crate::opus_codec::packet_ticks(payload),
            Self::Pcmu | Self::Pcma => u32::try_from(payload.len()).ok().filter(|ticks| (1..=1_600).contains(ticks)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opus_codec::{OpusDecoder, OpusEncoder};

    #[test]
    fn silence_frames_last_twenty_milliseconds() {
        for codec in Codec::ALL {
            assert_eq!(codec.payload_ticks(codec.silence_frame()), Some(codec.samples_per_20ms()), "{codec:?}");
        }
    }

    #[test]
    fn opus_silence_decodes_to_nothing() {
        let mut pcm = [7i16; 960];
        let mut decoder = OpusDecoder::new(48_000).unwrap();
        assert_eq!(decoder.decode(Codec::Opus.silence_frame(), &mut pcm).unwrap(), 960);
        assert!(pcm.iter().all(|s| s.abs() <= 1), "{pcm:?}");
    }

    #[test]
    fn three_frames_of_silence_end_a_running_stream() {
        // 16 kbit/s is SILK, 64 kbit/s hybrid or CELT.
        for bitrate in [16_000, 64_000] {
            let mut encoder = OpusEncoder::new(48_000, 5, bitrate).unwrap();
            let mut decoder = OpusDecoder::new(8_000).unwrap();
            let (mut packet, mut pcm) = ([0u8; 1_276], [0i16; 160]);
            for frame in crate::tone::sine(500.0, -6.0, 48_000, 400).chunks_exact(960) {
                let used = encoder.encode(frame, &mut packet).unwrap();
                decoder.decode(&packet[..used], &mut pcm).unwrap();
            }
            for _ in 0..3 {
                decoder.decode(Codec::Opus.silence_frame(), &mut pcm).unwrap();
            }
            assert!(pcm.iter().all(|s| s.abs() < 30), "{bitrate}: {pcm:?}");
        }
    }

    #[test]
    fn impossible_payloads_have_no_length() {
        assert_eq!(Codec::Pcmu.payload_ticks(&[]), None);
        assert_eq!(Codec::Pcma.payload_ticks(&[0; 1_601]), None);
        assert_eq!(Codec::Opus.payload_ticks(&[]), None);
    }
}
