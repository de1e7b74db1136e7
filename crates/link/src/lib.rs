//! The media seam between daemons: datagrams handed over inside one process, Tap records and their two transports (one process, or TLS between machines),
//! the certificates that pin them, and the keys of Links. Neither side of a Tap sees which transport it has.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod handover;
pub mod identity;
pub mod key;
pub mod neighbours;
pub mod tap;

pub use handover::{Guest, GuestId, Handed, Host, HostThread, HostThreads, House, Lodging, NoHost, Stay};
pub use identity::{Fingerprint, Identity, IdentityError, pinned_client_config};
pub use key::{LinkKeyError, RandomError, generate_link_key, random_token, srtp_key, srtp_profile};
pub use neighbours::{Neighbours, Parcel, neighbourhood};
pub use tap::{
    ClosedReason, Hello, InProcessTaps, OpenedTap, Packet, Party, ReaderState, RecordError, Refusal, TapDialError,
    TapDialer, TapForm, TapFrame, TapHost, TapHostError, TapHub, TapLimits, TapOpenError, TapReadError, TapReader,
    TapRecord, TapSubject, TapWriter, TrackId,
};
