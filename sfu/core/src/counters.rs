//! Plain counters of one shard, read once a tick by the daemon.

use offhook_shard::counters;

counters! {
    received_datagrams,
    forwarded_packets,
    announcer_packets,
    /// Of a notice or beep, not handed to a party who should have heard it; once for each.
    announcer_missed_frames,
    resent_packets,
    reports_sent,
    /// Of no protocol we speak, or cut off.
    dropped_unknown,
    /// Media or DTLS from an address that no leg owns.
    dropped_unknown_source,
    /// Not SRTP under the leg's key.
    dropped_unauthenticated,
    dropped_replayed,
    /// A ninth SSRC.
    dropped_source_limit,
    dropped_rate,
    /// More DTLS than a handshake needs.
    dropped_dtls_rate,
    /// DTLS after the handshake that says nothing.
    dropped_dtls_unusable,
    dropped_oversized,
    dropped_payload_type,
    /// Behind what was forwarded already, or of a stream that the sender has left.
    dropped_late,
    /// All slots of a listener are taken.
    unheard_no_slot,
    /// A listener does not know the codec.
    unheard_codec,
    dropped_egress_full,
    stun_checks,
    stun_malformed,
    stun_unauthenticated,
    stun_throttled,
    dtls_failed,
    goodbyes_ignored,
    rtcp_malformed,
    panics,
}

/// What exists now; all of it returns to zero when the last call has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    pub rooms: usize,
    pub peers: usize,
    pub links: usize,
    pub taps: usize,
    pub timers: usize,
    /// Addresses known by the demultiplexer.
    pub addresses: usize,
}
