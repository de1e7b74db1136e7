//! Offer and answer with a trunk: one audio line of RTP/AVP with G.711 and telephone events (RFC 3264, RFC 8866, RFC 4733).
//!
//! ```
//! # use offhook_wire_sdp::telephony::*;
//! let ours = AudioSession::new("192.0.2.1".parse().unwrap(), 30_000, &[Codec::Pcma, Codec::Pcmu]);
//! let mut local = LocalDescription::new(4711);
//! let offer_text = local.offer(&ours);
//!
//! // The other side answers …
//! let offer = Description::parse(&offer_text)?;
//! let theirs = AudioSession::new("198.51.100.7".parse().unwrap(), 4000, &[Codec::Pcmu]);
//! let (answer, heard) = negotiate(&offer, &theirs)?;
//! assert_eq!(heard.send.codec, Codec::Pcmu);
//! let answer_text = LocalDescription::new(1).answer(&offer, &answer);
//!
//! // … and we read its answer.
//! let agreed = accept_answer(&ours, &Description::parse(&answer_text)?)?;
//! assert_eq!(agreed.remote, "198.51.100.7:4000".parse().unwrap());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod description;
mod negotiate;
mod session;
mod write;

pub use description::{Description, Media, MediaKind, Origin};
pub use negotiate::{Agreed, NegotiateError, RtpCodec, accept_answer, negotiate};
pub use session::{AudioSession, Codec, Format, Proto};
pub use write::LocalDescription;
