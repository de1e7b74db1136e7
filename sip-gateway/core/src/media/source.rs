//! Who may send us RTP: the address in the remote SDP and nobody else.

use std::net::SocketAddr;

use offhook_media::Codec;
use offhook_wire_sdp::telephony::Agreed;

/// What an exchange of SDP agreed on, as far as media needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteMedia {
    pub rtp: SocketAddr,
    pub rtcp: SocketAddr,
    /// What we send: PCMU or PCMA.
    pub codec: Codec,
    pub payload_type: u8,
    /// What may come, by payload type.
    pub receive: [Option<(u8, Codec)>; 2],
    /// The payload types of telephone-event at 8 kHz, towards them and from them.
    pub send_events: Option<u8>,
    pub receive_events: Option<u8>,
    /// Whether they want to hear us, and whether they will speak.
    pub sends: bool,
    pub receives: bool,
}

impl RemoteMedia {
    pub fn from_agreed(agreed: &Agreed) -> Self {
        let mut receive = [None; 2];
        for (slot, format) in receive.iter_mut().zip(&agreed.receive) {
            *slot = Some((format.number, codec_of(format.codec)));
        }
        Self {
            rtp: agreed.remote,
            rtcp: agreed.remote_rtcp,
            codec: codec_of(agreed.send.codec),
            payload_type: agreed.send.number,
            receive,
            send_events: agreed.send_events,
            receive_events: agreed.receive_events,
            sends: agreed.direction.sends(),
            receives: agreed.direction.receives(),
        }
    }

    pub(super) fn codec_from(&self, payload_type: u8) -> Option<Codec> {
        self.receive.iter().flatten().find(|(number, _)| *number == payload_type).map(|(_, codec)| *codec)
    }
}

/// Events never stand among the voice formats.
const fn codec_of(codec: offhook_wire_sdp::telephony::Codec) -> Codec {
    use offhook_wire_sdp::telephony::Codec as Sdp;
    match codec {
        Sdp::Pcma => Codec::Pcma,
        Sdp::Pcmu | Sdp::TelephoneEvent => Codec::Pcmu,
    }
}

/// Why a datagram on a leg's port was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// It came before we know from where to expect it.
    NoRemote,
    ForeignAddress,
    /// The right host, but another port than the one the stream comes from.
    ForeignPort,
    NotRtp,
    /// A payload type that was not negotiated.
    PayloadType,
    /// Comfort noise, empty or oversized payloads: harmless and not forwarded.
    Payload,
}

impl DropReason {
    pub const ALL: [Self; 6] =
        [Self::NoRemote, Self::ForeignAddress, Self::ForeignPort, Self::NotRtp, Self::PayloadType, Self::Payload];

    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRemote => "no_remote",
            Self::ForeignAddress => "foreign_address",
            Self::ForeignPort => "foreign_port",
            Self::NotRtp => "not_rtp",
            Self::PayloadType => "payload_type",
            Self::Payload => "payload",
        }
    }
}

/// Where one stream (RTP or RTCP) comes from and goes to. The host is fixed by the SDP; the port is learned once from
/// the first valid packet, because a NAT on the way may have changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Latch {
    stated: SocketAddr,
    learned: Option<SocketAddr>,
}

impl Latch {
    pub(super) const fn new(stated: SocketAddr) -> Self {
        Self { stated, learned: None }
    }

    /// A new SDP; an unchanged address keeps what was learned.
    pub(super) fn restate(&mut self, stated: SocketAddr) {
        if self.stated != stated {
            *self = Self::new(stated);
        }
    }

    pub(super) fn check(&self, from: SocketAddr) -> Result<(), DropReason> {
        if from.ip() != self.stated.ip() {
            return Err(DropReason::ForeignAddress);
        }
        match self.learned {
            Some(learned) if learned != from => Err(DropReason::ForeignPort),
            _ => Ok(()),
        }
    }

    /// A valid packet came from there.
    pub(super) fn learn(&mut self, from: SocketAddr) {
        self.learned.get_or_insert(from);
    }

    /// Where to send.
    pub(super) fn target(&self) -> SocketAddr {
        self.learned.unwrap_or(self.stated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_port_is_learned_once_and_the_host_never() {
        let mut latch = Latch::new(at("192.0.2.1:4000"));
        assert_eq!(latch.target(), at("192.0.2.1:4000"));
        assert_eq!(latch.check(at("192.0.2.9:4000")), Err(DropReason::ForeignAddress));
        assert_eq!(latch.check(at("192.0.2.1:4777")), Ok(()));
        latch.learn(at("192.0.2.1:4777"));
        assert_eq!(latch.target(), at("192.0.2.1:4777"));
        assert_eq!(latch.check(at("192.0.2.1:4778")), Err(DropReason::ForeignPort));
        assert_eq!(latch.check(at("192.0.2.1:4000")), Err(DropReason::ForeignPort));
        latch.restate(at("192.0.2.1:4000"));
        assert_eq!(latch.target(), at("192.0.2.1:4777"), "an SDP that changes nothing");
        latch.restate(at("192.0.2.5:6000"));
        assert_eq!(latch.target(), at("192.0.2.5:6000"));
    }
}
