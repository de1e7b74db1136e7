//! The grammar of SIP on bytes (RFC 3261 §25): messages as borrowed views, typed headers, URIs, and builders.
//!
//! Strict where leniency would let two readers disagree about one message: lengths, duplicates, quotes, line ends.
//! Every refusal is a [`ParseError`] that knows its response code.
//!
//! ```
//! use offhook_wire_sip::{Message, Method, Name};
//! let bytes = b"OPTIONS sip:gw@192.0.2.1 SIP/2.0\r\nv: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1;rport\r\n\
//!     f: <sip:probe@192.0.2.9>;tag=1\r\nt: <sip:gw@192.0.2.1>\r\ni: abc\r\nCSeq: 7 OPTIONS\r\nl: 0\r\n\r\n";
//! let message = Message::parse(bytes)?;
//! assert_eq!(message.method(), &Method::Options);
//! assert_eq!(message.via().branch(), Some("z9hG4bK1"));
//! assert_eq!(message.header(Name::CallId), Some("abc"));
//! # Ok::<(), offhook_wire_sip::ParseError>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod auth;
mod build;
mod error;
mod header;
mod message;
mod method;
mod name_addr;
mod params;
pub mod property;
mod reason;
mod salvage;
mod scan;
mod uri;
mod via;

pub use auth::{AuthParams, quote};
pub use build::{BuildError, RequestBuilder, ResponseBuilder, reason_phrase};
pub use error::{ParseError, UriError};
pub use header::{Header, Name};
pub use message::{CSeq, MAX_BYTES, MAX_HEADERS, MAX_LINE_BYTES, MAX_VALUES, Message, StartLine};
pub use method::Method;
pub use name_addr::NameAddr;
pub use params::{ParamValue, Params};
pub use reason::Reason;
pub use salvage::refusal;
pub use uri::{AnyUri, Host, SipUri, TelUri};
pub use via::Via;
