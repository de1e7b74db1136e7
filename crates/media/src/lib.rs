//! Sound without IO: G.711 and Opus, mixing, tones and their detection, resampling, prompts and the jitter buffer.
//!
//! Samples are 16-bit linear PCM, mono. Levels are dBFS of a sine: 0 dBFS is a sine whose peak is full scale.
//! Time is told as a [`std::time::Duration`] since any fixed moment of the caller's choice.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod builtin;
mod codec;
pub mod detect;
pub mod dtmf;
pub mod g711;
pub mod jitter;
pub mod level;
pub mod mix;
pub mod opus_codec;
pub mod prompt;
pub mod resample;
pub mod tone;

pub use codec::Codec;
pub use jitter::{Arrival, JitterBuffer, Pull};
pub use opus_codec::{OpusDecoder, OpusEncoder, OpusError};
pub use prompt::{EncodedPrompt, Prompt, PromptError, encode, encode_beep};
pub use tone::BeepSpec;

/// The packet time of everything we send, in milliseconds.
pub const FRAME_MS: u32 = 20;
