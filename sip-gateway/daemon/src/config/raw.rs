//! `[sip]` and `[[trunk]]` as written in the file.

use std::net::SocketAddr;

use offhook_contract::{PhoneNumber, Secret, TenantId, TrunkName};
use serde::Deserialize;

/// `[sip]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSip {
    /// Where SIP is received. A trunk that is reached from another address of this host is served there as well, on the
    /// port of the first entry; an entry of `0.0.0.0` or `[::]` only names the port.
    pub(super) listen: Vec<SocketAddr>,
    /// First and last UDP port for RTP and RTCP; a leg takes two.
    pub(super) rtp_ports: [u16; 2],
    /// 0: one less than there are cores, at least one.
    pub(super) media_threads: usize,
    pub(super) max_legs: usize,
    /// A telephone that sends nothing for this long has lost its media.
    pub(super) media_timeout_s: u64,
    /// How long a caller waits while nobody answers.
    pub(super) max_ringing_s: u64,
    /// A carrier that says nothing at all to an INVITE is given up after this time.
    pub(super) carrier_silence_s: u64,
    /// Sent as User-Agent and Server; nothing when empty.
    pub(super) product: String,
}

impl Default for RawSip {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            rtp_ports: [20_000, 20_999],
            media_threads: 0,
            max_legs: 200,
            media_timeout_s: 60,
            max_ringing_s: 170,
            carrier_silence_s: 8,
            product: String::new(),
        }
    }
}

/// `[[trunk]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTrunk {
    pub(super) name: TrunkName,
    pub(super) tenant: TenantId,
    /// `sip.example.com`, `203.0.113.10:5060`, `[2001:db8::1]:5060`; port 5060 when absent.
    pub(super) address: String,
    /// The host in From, To and the request; that of `address` when absent.
    pub(super) domain: Option<String>,
    /// Further addresses that calls may come from, as `203.0.113.0/28`.
    #[serde(default)]
    pub(super) sources: Vec<String>,
    #[serde(default)]
    pub(super) username: String,
    #[serde(default)]
    pub(super) password: Secret,
    /// When set, challenges of other realms are not answered.
    pub(super) realm: Option<String>,
    #[serde(default)]
    pub(super) register: bool,
    #[serde(default = "five_minutes")]
    pub(super) register_expires_s: u64,
    /// Between two OPTIONS; 0 sends none.
    #[serde(default = "half_a_minute")]
    pub(super) keep_alive_s: u64,
    #[serde(default = "both_codecs")]
    pub(super) codecs: Vec<RawCodec>,
    /// Our numbers on this trunk; the first is shown to callees unless `caller_id` is set.
    #[serde(default)]
    pub(super) numbers: Vec<PhoneNumber>,
    pub(super) caller_id: Option<String>,
    /// The From header, with `{caller}`, `{user}` and `{domain}`.
    pub(super) from: Option<String>,
    #[serde(default)]
    pub(super) asserted_identity: RawAsserted,
    #[serde(default)]
    pub(super) dial_format: DialFormat,
    /// The numbers that this carrier sends without `+` begin with the country code.
    pub(super) digits_are_international: Option<bool>,
    /// Legs over this trunk at one time.
    #[serde(default = "fifty")]
    pub(super) max_calls: u32,
    /// Emergency numbers leave by this trunk.
    #[serde(default)]
    pub(super) emergency: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawCodec {
    Pcma,
    Pcmu,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawAsserted {
    #[default]
    None,
    Asserted,
    Preferred,
}

/// How a number is written in the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DialFormat {
    /// `+493012345`
    #[default]
    Plus,
    /// `493012345`
    Digits,
}

const fn five_minutes() -> u64 {
    300
}
const fn half_a_minute() -> u64 {
    30
}
const fn fifty() -> u32 {
    50
}
fn both_codecs() -> Vec<RawCodec> {
    vec![RawCodec::Pcma, RawCodec::Pcmu]
}
