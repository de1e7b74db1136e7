//! One leg as its media thread holds it: state, sockets, and the next moment it wants to be woken.

use std::time::Duration;

use offhook_net::{Datagram, ReceiveBatch, Received, SendBatch, UdpSocket};
use offhook_sip_core::media::{LegMedia, Output, TrunkInput};

use super::counters::MediaCounters;
use super::link_port::{LinkPort, Opened, TRAILER};
use super::ports::PortPair;
use super::thread::LegKey;

/// The largest datagram taken and sent.
pub(super) const DATAGRAM: usize = 1_500;
/// Datagrams taken from one socket before the next one has its turn.
pub(super) const BATCH: usize = 32;

/// Which of a leg's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Rtp,
    Rtcp,
    Link,
}

#[derive(Debug)]
pub(super) struct LegSlot {
    pub(super) key: LegKey,
    pub(super) media: Box<LegMedia>,
    pub(super) ports: PortPair,
    pub(super) link: Option<Box<LinkPort>>,
    /// The newest entry of the timer heap that counts for this leg.
    pub(super) scheduled: Option<Duration>,
}

/// What every packet needs, kept once per thread.
pub(super) struct Bench<'t> {
    pub(super) now: Duration,
    pub(super) receive: &'t mut ReceiveBatch,
    pub(super) send: &'t mut SendBatch,
    pub(super) buffer: &'t mut [u8; DATAGRAM + TRAILER],
    pub(super) counters: &'t MediaCounters,
}

impl LegSlot {
    /// Takes everything that waits on one socket, up to one batch (the poller reports the rest again).
    pub(super) fn read(&mut self, side: Side, bench: &mut Bench<'_>) {
        let Self { media, ports, link, .. } = self;
        match (side, link) {
            (Side::Rtp, link) => {
                let link = link.as_deref_mut();
                from_trunk(media, &ports.rtp, link, bench);
            }
            (Side::Rtcp, _) => drain(&ports.rtcp, bench, |bench, received| {
                bench.counters.add(|c| &c.trunk_received);
                if let TrunkInput::Dropped(reason) = media.handle_trunk_rtcp(bench.now, received.from, received.data) {
                    bench.counters.dropped(reason);
                }
            }),
            (Side::Link, Some(link)) => from_link(media, link, bench),
            (Side::Link, None) => {}
        }
    }

    /// Lets time pass and sends what is due.
    pub(super) fn advance(&mut self, bench: &mut Bench<'_>) {
        self.media.handle_timeout(bench.now);
        let limit = DATAGRAM;
        loop {
            let Some(room) = bench.buffer.get_mut(..limit) else { return };
            let Some(output) = self.media.poll_output(bench.now, room) else { return };
            let gone = match output {
                Output::TrunkRtp { to, length } => {
                    bench.counters.add(|c| &c.trunk_sent);
                    send(&self.ports.rtp, bench.send, to, bench.buffer.get(..length))
                }
                Output::TrunkRtcp { to, length } => send(&self.ports.rtcp, bench.send, to, bench.buffer.get(..length)),
                Output::LinkRtcp { length } => {
                    self.link.as_mut().is_none_or(|l| l.send_rtcp(bench.send, bench.buffer.as_mut_slice(), length))
                }
            };
            if !gone {
                bench.counters.add(|c| &c.send_refused);
            }
        }
    }

    pub(super) fn socket_count(&self) -> u64 {
        2 + u64::from(self.link.is_some())
    }
}

fn from_trunk(media: &mut LegMedia, socket: &UdpSocket, link: Option<&mut LinkPort>, bench: &mut Bench<'_>) {
    let mut link = link;
    drain(socket, bench, |bench, received| {
        bench.counters.add(|c| &c.trunk_received);
        let Some(room) = bench.buffer.get_mut(..DATAGRAM) else { return };
        match media.handle_trunk_rtp(bench.now, received.from, received.data, room) {
            TrunkInput::Forward(length) => {
                let Some(link) = link.as_deref_mut() else { return };
                let gone = link.send_rtp(bench.send, bench.buffer, length);
                bench.counters.add(|c| if gone { &c.link_sent } else { &c.send_refused });
            }
            TrunkInput::Dropped(reason) => bench.counters.dropped(reason),
            TrunkInput::Used => {}
        }
    });
}

fn from_link(media: &mut LegMedia, link: &mut LinkPort, bench: &mut Bench<'_>) {
    let Ok(count) = link.socket.receive(bench.receive) else { return };
    if count == 0 {
        return;
    }
    for received in bench.receive.datagrams() {
        let opened = if received.truncated { Opened::Refused } else { link.open(received.data) };
        let used = match opened {
            Opened::Rtp(length) => received.data.get(..length).is_some_and(|p| media.handle_link_rtp(bench.now, p)),
            Opened::Rtcp => true,
            Opened::Refused => false,
        };
        bench.counters.add(|c| if used { &c.link_received } else { &c.link_refused });
    }
}

/// What a handler of one datagram may touch.
struct Tools<'a> {
    now: Duration,
    send: &'a mut SendBatch,
    buffer: &'a mut [u8; DATAGRAM + TRAILER],
    counters: &'a MediaCounters,
}

fn drain(socket: &UdpSocket, bench: &mut Bench<'_>, mut each: impl FnMut(&mut Tools<'_>, Received<'_>)) {
    let Bench { now, receive, send, buffer, counters } = bench;
    let mut tools = Tools { now: *now, send, buffer, counters };
    // An error on a UDP socket tells of an earlier datagram (ICMP); what waits is read at the next wake-up.
    if socket.receive(receive).is_ok() {
        receive.datagrams().filter(|r| !r.truncated).for_each(|received| each(&mut tools, received));
    }
}

fn send(socket: &UdpSocket, batch: &mut SendBatch, to: std::net::SocketAddr, bytes: Option<&[u8]>) -> bool {
    let Some(bytes) = bytes else { return false };
    let datagram = Datagram { to, from: None, flow: 0, bytes };
    socket.send(batch, std::iter::once(datagram)).datagrams == 1
}
