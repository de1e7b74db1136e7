//! A worker's sockets: what came from clients leaves by relay sockets, what came from peers gathers and leaves by the
//! listeners. No lock, log or allocation per packet; what is for a stream goes to its task in a buffer that comes back.
use crate::stream::{Line, Spare};
use crate::worker::{guarded, icmp};
use offhook_link::Host;
use offhook_net::{Datagram, PeerError, ReceiveBatch, SendBatch, UdpSocket};
use offhook_turn_core::{ClientPath, Deliver, Forward, HEAD_ROOM, IcmpError, Moment, RelayKey, Shard, TAIL_ROOM, Via};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;

/// Datagrams of one system call.
pub(crate) const BATCH: usize = 64;
/// No datagram is longer (RFC 768). Of the places that are made for such, the system gives memory to what is written.
pub(crate) const DATAGRAM_BYTES: usize = 65_535;

/// Of one round.
const ERRORS: usize = BATCH;

/// What a worker's loop owns besides the shard.
pub(crate) struct Sockets {
    pub(crate) listeners: Vec<UdpSocket>,
    /// By the index of their key.
    relays: Vec<Option<(RelayKey, UdpSocket)>>,
    /// By the address they are bound to.
    by_address: HashMap<SocketAddr, RelayKey>,
    pub(crate) streams: HashMap<u32, Line>,
    spare: Spare,
    send: SendBatch,
    gathered: Gathered,
    /// What is to leave by relay sockets, and its place in the batch that was received.
    lined_up: Vec<(usize, Forward)>,
    /// Around a datagram that the host handed over.
    frame: Box<[u8]>,
    /// What the system said while we sent; at most [`ERRORS`], and nothing stays here for longer than a round.
    pub(crate) errors: Vec<(RelayKey, SocketAddr, IcmpError)>,
    pub(crate) refused: u64,
    pub(crate) handed_over: u64,
}

/// Messages for clients that wait for the end of a round.
struct Gathered {
    bytes: Vec<u8>,
    list: Vec<(ClientPath, usize)>,
}

impl Gathered {
    fn push(&mut self, path: ClientPath, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.list.push((path, bytes.len()));
    }

    fn is_full(&self) -> bool {
        self.list.len() >= BATCH
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
    }

    fn iter(&self) -> impl Iterator<Item = (&ClientPath, &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.list.iter().map_while(move |(path, length)| {
            let (bytes, after) = rest.split_at_checked(*length)?;
            rest = after;
            Some((path, bytes))
        })
    }
}

impl Sockets {
    pub(crate) fn new(listeners: Vec<UdpSocket>, spare: Spare) -> Self {
        Self {
            listeners,
            relays: Vec::new(),
            by_address: HashMap::new(),
            streams: HashMap::new(),
            spare,
            send: SendBatch::new(BATCH),
            gathered: Gathered { bytes: Vec::with_capacity(BATCH * DATAGRAM_BYTES), list: Vec::with_capacity(BATCH) },
            lined_up: Vec::with_capacity(BATCH),
            frame: vec![0; HEAD_ROOM + DATAGRAM_BYTES + TAIL_ROOM].into(),
            errors: Vec::new(),
            refused: 0,
            handed_over: 0,
        }
    }

    pub(crate) fn add_relay(&mut self, key: RelayKey, socket: UdpSocket) {
        if self.relays.len() <= key.index() {
            self.relays.resize_with(key.index() + 1, || None);
        }
        self.by_address.insert(socket.local_address(), key);
        if let Some(slot) = self.relays.get_mut(key.index()) {
            *slot = Some((key, socket));
        }
    }

    pub(crate) fn remove_relay(&mut self, key: RelayKey) -> Option<UdpSocket> {
        let slot = self.relays.get_mut(key.index())?;
        let (_, socket) = slot.take_if(|(held, _)| *held == key)?;
        self.by_address.remove(&socket.local_address());
        if self.by_address.is_empty() {
            self.by_address.shrink_to_fit();
            self.relays = Vec::new();
        }
        Some(socket)
    }

    /// `key` without its highest bit, which the poller's token has no room for.
    pub(crate) fn relay(&self, key: RelayKey) -> Option<(RelayKey, &UdpSocket)> {
        let same = |held: RelayKey| (held.to_bits() ^ key.to_bits()) << 1 == 0;
        let (held, socket) = self.relays.get(key.index())?.as_ref().filter(|(held, _)| same(*held))?;
        Some((*held, socket))
    }

    /// Takes a client's message to its peer: at once if that is with the host, else with [`Self::send_lined_up`].
    pub(crate) fn line_up(&mut self, place: usize, forward: Forward, datagram: &mut [u8], host: &mut dyn Host) {
        if !self.hand_over(&forward, datagram, host) {
            self.lined_up.push((place, forward));
        }
    }

    /// Sends what was lined up; a run out of one relay to one peer leaves together.
    pub(crate) fn send_lined_up(&mut self, batch: &ReceiveBatch) {
        let Self { relays, lined_up, send, refused, errors, .. } = self;
        for run in lined_up.chunk_by(|(_, a), (_, b)| leave_together(a, b)) {
            let Some((place, first)) = run.first() else { continue };
            let Some(Some((key, socket))) = relays.get(first.relay.index()) else { continue };
            if run.len() > 1 {
                let bytes = |(place, forward): &(usize, Forward)| batch.part(*place, forward.payload.clone());
                let each = run.iter().filter_map(bytes);
                let datagrams = each.map(|bytes| Datagram { to: first.to, from: None, flow: 0, bytes });
                *refused += socket.send(send, datagrams).refused as u64;
            } else if let Some(bytes) = batch.part(*place, first.payload.clone()) {
                *refused += u64::from(!send_single((*key, socket), first, bytes, errors));
            }
        }
        lined_up.clear();
    }

    /// For a message that came by a stream.
    pub(crate) fn forward(&mut self, forward: &Forward, message: &mut [u8], host: &mut dyn Host) {
        if self.hand_over(forward, message, host) {
            return;
        }
        let Some(Some((key, socket))) = self.relays.get(forward.relay.index()) else { return };
        let Some(bytes) = message.get(forward.payload.clone()) else { return };
        self.refused += u64::from(!send_single((*key, socket), forward, bytes, &mut self.errors));
    }

    /// A buffer that was read, to the connection it came from.
    pub(crate) fn give_back(&self, path: &ClientPath, messages: Vec<u8>) {
        if let Via::Stream(id) = path.via
            && let Some(line) = self.streams.get(&id)
        {
            let _ = line.spent.try_send(messages);
        }
    }

    fn hand_over(&mut self, forward: &Forward, datagram: &mut [u8], host: &mut dyn Host) -> bool {
        // A host with much to send is reached by its socket, which waits.
        if host.is_full() {
            return false;
        }
        let Some(bytes) = datagram.get_mut(forward.payload.clone()) else { return false };
        let Some(Some((_, socket))) = self.relays.get(forward.relay.index()) else { return false };
        let is_taken = host.hand_over(socket.local_address(), forward.to, bytes);
        self.handed_over += u64::from(is_taken);
        is_taken
    }

    /// Takes a relay socket's datagrams to their client.
    pub(crate) fn deliver(&mut self, now: Moment, shard: &mut Shard, key: RelayKey, batch: &mut ReceiveBatch) {
        for framed in batch.framed().filter(|framed| !framed.truncated) {
            if let Some(deliver) = from_peer(shard, now, (key, framed.from), framed.frame, framed.payload) {
                self.gather(&deliver, framed.frame);
            }
        }
    }

    /// Takes what the host sends to a relay of ours; `false` if there is none.
    pub(crate) fn take(
        &mut self,
        now: Moment,
        shard: &mut Shard,
        (from, to): (SocketAddr, SocketAddr),
        datagram: &[u8],
    ) -> bool {
        let Some(key) = self.by_address.get(&to).copied() else { return false };
        let payload = HEAD_ROOM..HEAD_ROOM + datagram.len();
        let mut frame = std::mem::take(&mut self.frame);
        // Longer ones take their way through the sockets.
        let fits = frame.get_mut(payload.clone()).filter(|_| datagram.len() <= DATAGRAM_BYTES);
        let is_taken = fits.is_some_and(|place| {
            place.copy_from_slice(datagram);
            true
        });
        if is_taken && let Some(deliver) = from_peer(shard, now, (key, from), &mut frame, payload) {
            self.handed_over += 1;
            self.gather(&deliver, &frame);
        }
        self.frame = frame;
        is_taken
    }

    fn gather(&mut self, deliver: &Deliver, frame: &[u8]) {
        let Some(bytes) = frame.get(deliver.message.clone()) else { return };
        match deliver.path.via {
            Via::Udp(_) => {
                self.gathered.push(deliver.path, bytes);
                if self.gathered.is_full() {
                    self.flush();
                }
            }
            Via::Stream(id) => {
                // A client that does not read loses packets, as on any network.
                let lost = self.streams.get(&id).is_none_or(|line| !self.spare.send(line, bytes));
                self.refused += u64::from(lost);
            }
        }
    }

    /// Sends what has gathered.
    pub(crate) fn flush(&mut self) {
        if self.gathered.list.is_empty() {
            return;
        }
        for (index, listener) in self.listeners.iter().enumerate() {
            let own = self.gathered.iter().filter(|(path, _)| path.via == Via::Udp(index as u16));
            let sent = listener.send(&mut self.send, own.map(|(path, bytes)| datagram(path, listener, bytes)));
            self.refused += sent.refused as u64;
        }
        self.gathered.clear();
    }

    /// Sends the shard's own answers.
    pub(crate) fn answer(&mut self, shard: &Shard) {
        for (index, listener) in self.listeners.iter().enumerate() {
            let own = shard.transmits().filter(|transmit| transmit.path.via == Via::Udp(index as u16));
            let sent = listener.send(&mut self.send, own.map(|t| datagram(t.path, listener, t.bytes)));
            self.refused += sent.refused as u64;
        }
        for transmit in shard.transmits() {
            if let Via::Stream(id) = transmit.path.via
                && let Some(line) = self.streams.get(&id)
            {
                let _ = self.spare.send(line, transmit.bytes);
            }
        }
    }
}

/// A datagram that breaks an invariant costs the allocation it was for, and nobody else's.
fn from_peer(
    shard: &mut Shard,
    now: Moment,
    (relay, from): (RelayKey, SocketAddr),
    frame: &mut [u8],
    payload: Range<usize>,
) -> Option<Deliver> {
    guarded(|| shard.handle_peer(now, relay, from, frame, payload)).unwrap_or_else(|| {
        shard.quarantine_relay(now, relay);
        None
    })
}

/// One call of the system sends both, and knows one DF bit.
fn leave_together(a: &Forward, b: &Forward) -> bool {
    a.relay == b.relay && a.to == b.to && !a.dont_fragment && !b.dont_fragment
}

/// `false`: refused. What must not be fragmented and is longer than the way's MTU goes into `errors`.
fn send_single(
    (key, socket): (RelayKey, &UdpSocket),
    forward: &Forward,
    bytes: &[u8],
    errors: &mut Vec<(RelayKey, SocketAddr, IcmpError)>,
) -> bool {
    if forward.dont_fragment {
        let _ = socket.set_dont_fragment(true);
    }
    // An ICMP error that waits is told by the first send after it, which then has not been made.
    let sent = socket.send_one(forward.to, bytes).or_else(|_| socket.send_one(forward.to, bytes));
    if forward.dont_fragment {
        let _ = socket.set_dont_fragment(false);
    }
    if forward.dont_fragment
        && let Err(error) = &sent
        && error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
    {
        note_too_long((key, socket), forward.to, errors);
    }
    sent.is_ok()
}

/// The first router that would not let it pass is this host: told as ICMP would tell it (RFC 8656 §11.5, §18.13). The
/// MTU stands in the socket's error queue, in an entry without a port, among what ICMP said of others.
fn note_too_long(
    (key, socket): (RelayKey, &UdpSocket),
    to: SocketAddr,
    errors: &mut Vec<(RelayKey, SocketAddr, IcmpError)>,
) {
    let mut mtu = 0;
    for error in std::iter::from_fn(|| socket.take_error()).take(ERRORS) {
        if error.kind == PeerError::LOCAL {
            mtu = error.data;
        } else if errors.len() < ERRORS {
            errors.push((key, error.peer, icmp(&error)));
        }
    }
    // RFC 792: fragmentation needed and DF set; RFC 4443 §3.2: packet too big.
    let (kind, code) = if to.is_ipv4() { (3, 4) } else { (2, 0) };
    if errors.len() < ERRORS {
        errors.push((key, to, IcmpError { kind, code, data: mtu }));
    }
}

fn datagram<'a>(path: &ClientPath, listener: &UdpSocket, bytes: &'a [u8]) -> Datagram<'a> {
    let wildcard = listener.local_address().ip().is_unspecified();
    Datagram { to: path.client, from: wildcard.then_some(path.server.ip()), flow: u32::from(path.client.port()), bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_link::NoHost;
    use offhook_net::UdpOptions;
    use offhook_turn_core::Key;

    /// More than the loopback interface takes at once.
    const TOO_LONG: usize = 65_512;

    fn at_loopback(ip: &str) -> (Sockets, RelayKey, SocketAddr) {
        let options = UdpOptions { keep_errors: true, ..UdpOptions::default() };
        let relay = UdpSocket::bind(SocketAddr::new(ip.parse().unwrap(), 0), options).unwrap();
        let to = std::net::UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap();
        let (mut sockets, key) = (Sockets::new(Vec::new(), Spare::new().0), Key::from_bits(0));
        sockets.add_relay(key, relay);
        (sockets, key, to)
    }

    fn send(sockets: &mut Sockets, to: SocketAddr, length: usize, dont_fragment: bool) -> u64 {
        let before = sockets.refused;
        let forward = Forward { relay: Key::from_bits(0), to, payload: 0..length, dont_fragment };
        sockets.forward(&forward, &mut vec![7; length], &mut NoHost);
        sockets.refused - before
    }

    #[test]
    fn what_is_too_long_for_dont_fragment_is_told_as_icmp_would_tell_it() {
        for (ip, kind, code) in [("127.0.0.1", 3, 4), ("::1", 2, 0)] {
            let (mut sockets, key, to) = at_loopback(ip);
            let peer = std::net::UdpSocket::bind(to).unwrap();
            assert_eq!((send(&mut sockets, to, 1_000, true), sockets.errors.len()), (0, 0));
            assert_eq!((send(&mut sockets, to, TOO_LONG, true), sockets.errors.len()), (1, 1), "{ip}");
            let (told_of, told_peer, error) = sockets.errors.remove(0);
            assert_eq!((told_of, told_peer, error.kind, error.code), (key, to, kind, code));
            assert!((1_280..=65_536).contains(&error.data), "an MTU of {}", error.data);
            // Nothing of it is left for the next one.
            assert!(sockets.relay(key).unwrap().1.take_error().is_none());
            // Who did not ask for it is told nothing: it leaves in fragments, or is longer than any datagram.
            send(&mut sockets, to, TOO_LONG, false);
            assert!(sockets.errors.is_empty());
            drop(peer);
        }
    }

    /// RFC 8656 §14: the bit is the packet's own, whatever came before it.
    #[test]
    fn what_must_not_be_cut_leaves_by_itself() {
        let runs = |asks: &[bool]| {
            let to = "127.0.0.1:9".parse().unwrap();
            let forward = |ask: &bool| Forward { relay: Key::from_bits(0), to, payload: 0..1, dont_fragment: *ask };
            let lined_up: Vec<Forward> = asks.iter().map(forward).collect();
            lined_up.chunk_by(leave_together).map(<[_]>::len).collect::<Vec<_>>()
        };
        assert_eq!(runs(&[false, true, true, false]), [1, 1, 1, 1]);
        assert_eq!(runs(&[false, false, true, false, false, false]), [2, 1, 3]);
    }

    #[test]
    fn what_icmp_said_of_others_is_told_with_it() {
        let (mut sockets, key, closed) = at_loopback("127.0.0.1");
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = peer.local_addr().unwrap();
        assert_eq!(send(&mut sockets, closed, 10, false), 0);
        assert_eq!(send(&mut sockets, to, TOO_LONG, true), 1);
        let told: Vec<_> =
            sockets.errors.iter().map(|(of, peer, error)| (*of, *peer, error.kind, error.code)).collect();
        assert_eq!(told, [(key, closed, 3, 3), (key, to, 3, 4)]);
    }
}
