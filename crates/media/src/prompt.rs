//! Prompts: sounds of ours, encoded once per codec when they are loaded and afterwards only copied out.

use crate::opus_codec::{MAX_FRAME_BYTES, OpusEncoder, OpusError};
use crate::resample::{UnsupportedRates, resample_all};
use crate::tone::{self, BeepSpec};
use crate::{Codec, g711};

/// Silence before the sound: a listener's jitter buffer starts on it.
pub const LEAD_IN_FRAMES: usize = 1;
/// Silence after it: without, browsers stretch the last sound by some 200 ms.
pub const TRAILING_FRAMES: usize = 4;
/// The longest prompt taken.
pub const MAX_PROMPT_S: u32 = 300;

const OPUS_COMPLEXITY: u8 = 10;
const OPUS_BITRATE: u32 = 40_000;

#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    #[error("not a WAV file: {0}")]
    Wav(#[from] hound::Error),
    #[error("a prompt is 16-bit PCM; this file has {bits} bits")]
    Bits { bits: u16 },
    #[error("a prompt has one or two channels; this file has {channels}")]
    Channels { channels: u16 },
    #[error("the prompt is empty")]
    Empty,
    #[error("the prompt is longer than {MAX_PROMPT_S} s")]
    TooLong,
    #[error(transparent)]
    Rate(#[from] UnsupportedRates),
    #[error(transparent)]
    Opus(#[from] OpusError),
}

/// A sound as samples, mono.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    pub rate: u32,
    pub samples: Vec<i16>,
}

impl Prompt {
    /// Reads a 16-bit PCM WAV file of 8, 16, 24 or 48 kHz; two channels become one.
    pub fn from_wav(bytes: &[u8]) -> Result<Self, PromptError> {
        let mut reader = hound::WavReader::new(bytes)?;
        let spec = reader.spec();
        if spec.bits_per_sample != 16 || spec.sample_format != hound::SampleFormat::Int {
            return Err(PromptError::Bits { bits: spec.bits_per_sample });
        }
        let channels = match spec.channels {
            1 => 1,
            2 => 2,
            channels => return Err(PromptError::Channels { channels }),
        };
        if u64::from(reader.duration()) > u64::from(spec.sample_rate) * u64::from(MAX_PROMPT_S) {
            return Err(PromptError::TooLong);
        }
        // Refuses rates we cannot resample before reading on.
        crate::resample::Resampler::new(spec.sample_rate, 8_000)?;
        let all = reader.samples::<i16>().collect::<Result<Vec<_>, _>>()?;
        let samples: Vec<i16> = all
            .chunks_exact(channels)
            .map(|frame| (frame.iter().map(|s| i32::from(*s)).sum::<i32>() / channels as i32) as i16)
            .collect();
        if samples.is_empty() {
            return Err(PromptError::Empty);
        }
        Ok(Self { rate: spec.sample_rate, samples })
    }

    pub fn duration_ms(&self) -> u32 {
        (self.samples.len() as u64 * 1_000 / u64::from(self.rate.max(1))) as u32
    }
}

/// A sound as RTP payloads of 20 ms, in every codec a party may have; all codecs have the same number of frames.
#[derive(Debug, Clone)]
pub struct EncodedPrompt {
    opus: Vec<Box<[u8]>>,
    pcmu: Vec<Box<[u8]>>,
    pcma: Vec<Box<[u8]>>,
}

impl EncodedPrompt {
    /// Every payload in order: lead-in, sound, trailing silence.
    pub fn frames(&self, codec: Codec) -> &[Box<[u8]>] {
        match codec {
            Codec::Opus => &self.opus,
            Codec::Pcmu => &self.pcmu,
            Codec::Pcma => &self.pcma,
        }
    }

    /// One payload; `None` after the last.
    pub fn frame(&self, codec: Codec, index: usize) -> Option<&[u8]> {
        self.frames(codec).get(index).map(|f| &**f)
    }

    /// The payloads of the sound alone: what a loop (hold music) repeats.
    pub fn content(&self, codec: Codec) -> &[Box<[u8]>] {
        let frames = self.frames(codec);
        frames.get(LEAD_IN_FRAMES..frames.len().saturating_sub(TRAILING_FRAMES)).unwrap_or(&[])
    }

    pub fn frame_count(&self) -> usize {
        self.pcmu.len()
    }

    /// The whole burst, silence included.
    pub fn duration_ms(&self) -> u32 {
        self.frame_count() as u32 * crate::FRAME_MS
    }

    /// The sound alone, in whole frames.
    pub fn content_ms(&self) -> u32 {
        self.content(Codec::Pcmu).len() as u32 * crate::FRAME_MS
    }
}

/// Encodes a prompt in every codec. Takes about 1/100 of its duration: at load time, never on a media thread.
pub fn encode(prompt: &Prompt) -> Result<EncodedPrompt, PromptError> {
    encode_rates(
        &resample_all(&prompt.samples, prompt.rate, 48_000)?,
        &resample_all(&prompt.samples, prompt.rate, 8_000)?,
    )
}

/// Encodes a beep in every codec, generated at each codec's own rate.
pub fn encode_beep(spec: &BeepSpec) -> Result<EncodedPrompt, PromptError> {
    if spec.duration_ms > MAX_PROMPT_S * 1_000 {
        return Err(PromptError::TooLong);
    }
    encode_rates(&tone::beep(spec, 48_000), &tone::beep(spec, 8_000))
}

fn encode_rates(wide: &[i16], narrow: &[i16]) -> Result<EncodedPrompt, PromptError> {
    let g711_frames = |encode: fn(&[i16], &mut [u8]) -> usize| {
        framed(narrow, 160)
            .map(|frame| {
                let mut bytes = vec![0; frame.len()];
                encode(&frame, &mut bytes);
                bytes.into_boxed_slice()
            })
            .collect::<Vec<_>>()
    };
    let mut encoder = OpusEncoder::new(48_000, OPUS_COMPLEXITY, OPUS_BITRATE)?;
    let mut buffer = [0u8; MAX_FRAME_BYTES];
    let opus = framed(wide, 960)
        .map(|frame| {
            let used = encoder.encode(&frame, &mut buffer)?;
            Ok(buffer.get(..used).unwrap_or(&[]).into())
        })
        .collect::<Result<Vec<_>, OpusError>>()?;
    let (pcmu, pcma) = (g711_frames(g711::encode_pcmu), g711_frames(g711::encode_pcma));
    debug_assert_eq!(opus.len(), pcmu.len());
    Ok(EncodedPrompt { opus, pcmu, pcma })
}

/// Cuts a sound into frames, silence around it; the last frame of sound is filled up.
fn framed(samples: &[i16], frame: usize) -> impl Iterator<Item = Vec<i16>> + '_ {
    let silence = move |count| (0..count).map(move |_| vec![0i16; frame]);
    let sound = samples.chunks(frame).map(move |chunk| {
        let mut full = chunk.to_vec();
        full.resize(frame, 0);
        full
    });
    silence(LEAD_IN_FRAMES).chain(sound).chain(silence(TRAILING_FRAMES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OpusDecoder;
    use crate::detect::{self, find_bursts};

    fn wav(spec: hound::WavSpec, samples: &[i16]) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        samples.iter().for_each(|s| writer.write_sample(*s).unwrap());
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    fn spec(channels: u16, sample_rate: u32) -> hound::WavSpec {
        hound::WavSpec { channels, sample_rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int }
    }

    fn heard(encoded: &EncodedPrompt, codec: Codec) -> (Vec<i16>, u32) {
        let mut pcm = Vec::new();
        let mut decoder = OpusDecoder::new(48_000).unwrap();
        for frame in encoded.frames(codec) {
            match codec {
                Codec::Pcmu => pcm.extend(frame.iter().map(|b| g711::pcmu_to_linear(*b))),
                Codec::Pcma => pcm.extend(frame.iter().map(|b| g711::pcma_to_linear(*b))),
                Codec::Opus => {
                    let mut out = [0; 960];
                    decoder.decode(frame, &mut out).unwrap();
                    pcm.extend(out);
                }
            }
        }
        (pcm, codec.clock_rate())
    }

    #[test]
    fn a_beep_sounds_once_in_every_codec_with_silence_around_it() {
        let encoded = encode_beep(&BeepSpec::default()).unwrap();
        assert_eq!(encoded.frame_count(), LEAD_IN_FRAMES + 10 + TRAILING_FRAMES);
        assert_eq!(encoded.content_ms(), 200);
        for codec in Codec::ALL {
            assert_eq!(encoded.frames(codec).len(), encoded.frame_count());
            for frame in encoded.frames(codec) {
                assert_eq!(codec.payload_ticks(frame), Some(codec.samples_per_20ms()));
            }
            let (pcm, rate) = heard(&encoded, codec);
            let bursts = find_bursts(&pcm, rate, 1_400.0);
            assert_eq!(bursts.len(), 1, "{codec:?}: {bursts:?}");
            assert!(bursts[0].start_ms.abs_diff(20) <= 12, "{codec:?}: {bursts:?}");
            assert!(bursts[0].len_ms.abs_diff(200) <= 12, "{codec:?}: {bursts:?}");
            let middle = &pcm[rate as usize / 20..rate as usize / 5];
            assert!((detect::level_dbfs_of(middle, rate, 1_400.0) + 20.0).abs() < 1.5, "{codec:?}");
            let tail = &pcm[pcm.len() - rate as usize / 50..];
            assert!(tail.iter().all(|s| s.abs() < 40), "{codec:?} ends in silence");
        }
    }

    #[test]
    fn a_wav_prompt_reaches_every_codec() {
        let pcm = tone::sine(1_000.0, -12.0, 16_000, 1_010);
        let prompt = Prompt::from_wav(&wav(spec(1, 16_000), &pcm)).unwrap();
        assert_eq!(prompt.duration_ms(), 1_010);
        let encoded = encode(&prompt).unwrap();
        assert_eq!(encoded.content_ms(), 1_020);
        for codec in Codec::ALL {
            let (pcm, rate) = heard(&encoded, codec);
            let middle = &pcm[rate as usize / 10..rate as usize];
            assert!(detect::presence(middle, rate, 1_000.0) > 0.99, "{codec:?}");
        }
    }

    #[test]
    fn stereo_becomes_mono() {
        let prompt = Prompt::from_wav(&wav(spec(2, 8_000), &[100, 300, -100, -300])).unwrap();
        assert_eq!(prompt.samples, [200, -200]);
    }

    #[test]
    fn unusable_files_are_refused_with_the_reason() {
        assert!(matches!(Prompt::from_wav(b"RIFF"), Err(PromptError::Wav(_))));
        assert!(matches!(Prompt::from_wav(&wav(spec(1, 8_000), &[])), Err(PromptError::Empty)));
        assert!(matches!(Prompt::from_wav(&wav(spec(1, 44_100), &[0; 9])), Err(PromptError::Rate(_))));
        assert!(matches!(Prompt::from_wav(&wav(spec(3, 8_000), &[0; 9])), Err(PromptError::Channels { .. })));
        let whole = wav(spec(1, 8_000), &[7; 400]);
        for cut in 0..whole.len() {
            let _ = Prompt::from_wav(&whole[..cut]);
        }
    }
}
