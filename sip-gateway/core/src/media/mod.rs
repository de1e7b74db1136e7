//! The media half of a telephone leg: RTP and RTCP with the carrier on one side, the Link to the SFU on the other.
//!
//! Sans-IO like everything here: datagrams and the time come in, decisions and finished datagrams go out. The shell owns
//! sockets and SRTP. Nothing on the packet path allocates; what must be allocated (decoders, buffers) is made when a leg
//! or its Link is made, outside the media threads.
//!
//! Assumptions: the carrier's codec is G.711 (8 kHz); the Link speaks Opus, PCMU and PCMA with the payload types of
//! [`offhook_contract::CodecName`]; `now` is time since any fixed moment, the same for all calls.

#[cfg(test)]
mod announced;
#[cfg(test)]
mod carriers;
mod digits_in;
mod digits_out;
mod leg;
mod mouth;
mod reports;
mod source;
mod speaker;
#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;
mod uplink;

pub use digits_in::Digit;
pub use digits_out::DigitsError;
pub use leg::{LegMedia, LegMediaConfig, LegNumbers, MediaEvent, Output, TrunkInput};
pub use reports::LegReport;
pub use source::{DropReason, RemoteMedia};
pub use speaker::LinkStreams;

/// Samples of 20 ms at the telephone's rate.
pub const FRAME: usize = 160;
/// The telephone's sample rate and RTP clock.
pub const RATE: u32 = 8_000;
