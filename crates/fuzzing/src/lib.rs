//! The fuzz targets as plain functions. `fuzz/` runs them under libFuzzer; `tests/replay.rs` replays seeds and seeded
//! mutations in every test run.
//!
//! A target panics when a property does not hold: what is parsed and written again parses to the same; what is sealed
//! opens; what is forged does not. To add one: a file here, a line in [`TARGETS`], three lines in
//! `fuzz/fuzz_targets/`, a `[[bin]]` in `fuzz/Cargo.toml`, seeds in `fuzz/seeds/<name>/` (or a link to the crate's own) and words in
//! `fuzz/dict/<name>.dict`.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "panicking is how a target speaks")]

pub mod mutate;
pub mod recording;
pub mod rtcp;
pub mod rtp;
pub mod sdp;
pub mod sip;
pub mod srtp;
pub mod stun;
pub mod tap;
pub mod turn;
pub mod turnserver_conf;

/// One target: its name (also that of its seeds, dictionary and binary) and what it does with any input.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

pub const TARGETS: &[Target] = &[
    Target { name: "stun", run: stun::run },
    Target { name: "rtp", run: rtp::run },
    Target { name: "rtcp", run: rtcp::run },
    Target { name: "srtp", run: srtp::run },
    Target { name: "sdp", run: sdp::run },
    Target { name: "sip", run: sip::run },
    Target { name: "tap", run: tap::run },
    Target { name: "recording", run: recording::run },
    Target { name: "turn", run: turn::run },
    Target { name: "turnserver_conf", run: turnserver_conf::run },
];
