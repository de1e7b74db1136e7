//! The data path: ChannelData and Send from clients (RFC 8656 §12.6, §11.2), datagrams and ICMP from peers (§11.3, §12.7,
//! §11.5). It returns decisions; nothing is allocated, and a payload stays where it arrived.
use crate::allocation::{Meter, RelayKey, family_of};
use crate::path::ClientPath;
use crate::policy::canonical_socket;
use crate::shard::Shard;
use offhook_shard::{Bucket, Moment, Rate};
use offhook_wire_stun::channel_data;
use offhook_wire_stun::{AttributeType, Class, HEADER_LEN, Message, MessageBuilder, Method, TransactionId};
use std::net::SocketAddr;
use std::ops::Range;

/// Free bytes that [`Shard::handle_peer`] needs in front of a payload: a Data indication's header, XOR-PEER-ADDRESS of
/// IPv6 and the header of DATA.
pub const HEAD_ROOM: usize = HEADER_LEN + 24 + 4;
/// Free bytes that it needs behind it, for padding.
pub const TAIL_ROOM: usize = 3;

/// Send `payload`, a range of the datagram just handed in, out of `relay` to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    pub relay: RelayKey,
    pub to: SocketAddr,
    pub payload: Range<usize>,
    /// RFC 8656 §15: with the DF bit.
    pub dont_fragment: bool,
}

/// Send `message`, a range of the frame just handed in, to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deliver {
    pub path: ClientPath,
    pub message: Range<usize>,
}

/// What the system said of a datagram to a peer (RFC 8656 §18.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpError {
    pub kind: u8,
    pub code: u8,
    /// The next hop's MTU where the message tells it.
    pub data: u32,
}

impl Shard {
    pub(crate) fn handle_channel_data(&mut self, now: Moment, path: &ClientPath, datagram: &[u8]) -> Option<Forward> {
        let Some((channel, length)) = read_channel_data(datagram) else {
            self.counters.dropped_unknown += 1;
            return None;
        };
        let key = self.by_path.get(path).copied();
        let Some(allocation) = key.and_then(|key| self.allocations.get_mut(key)) else {
            self.counters.dropped_no_allocation += 1;
            return None;
        };
        let bound = allocation.channel(channel, now).map(|channel| (channel.local, channel.at_relay));
        if bound.is_some_and(|(local, at_relay)| at_relay && self.ports.shared().owner(local).is_none()) {
            self.counters.dropped_forbidden += 1;
            return None;
        }
        let held = bound.and_then(|(to, _)| Some((to, allocation.relay(family_of(to))?.relay)));
        let Some((to, relay)) = held else {
            self.counters.dropped_no_channel += 1;
            return None;
        };
        let limit = allocation.limit();
        if !pass(now, &mut allocation.up, limit, &mut self.shard_up, self.shard_rate, length) {
            self.counters.dropped_bandwidth += 1;
            return None;
        }
        self.counters.up_packets += 1;
        self.counters.up_bytes += length as u64;
        let start = channel_data::HEADER_LEN;
        Some(Forward { relay, to, payload: start..start + length, dont_fragment: false })
    }

    pub(crate) fn send(&mut self, now: Moment, path: &ClientPath, message: &Message<'_>) -> Option<Forward> {
        // RFC 8656 §11.2: without either of them it is discarded; so is what must be understood and is not.
        const KNOWN: &[AttributeType] =
            &[AttributeType::XOR_PEER_ADDRESS, AttributeType::DATA, AttributeType::DONT_FRAGMENT];
        let (Ok(Some(peer)), Some(payload)) = (message.xor_peer_address(), message.data()) else {
            self.counters.dropped_unknown += 1;
            return None;
        };
        if message.unknown_required(KNOWN).next().is_some() {
            self.counters.dropped_unknown += 1;
            return None;
        }
        let key = self.by_path.get(path).copied();
        let Some(allocation) = key.and_then(|key| self.allocations.get_mut(key)) else {
            self.counters.dropped_no_allocation += 1;
            return None;
        };
        let peer = canonical_socket(peer);
        let policy = &self.settings.policy;
        if allocation.permission(peer.ip(), now).is_none() {
            // Only for the counters: what has no permission goes nowhere.
            match policy.judge(peer, self.ports.shared()) {
                Ok(_) => self.counters.dropped_no_permission += 1,
                Err(_) => self.counters.dropped_forbidden += 1,
            }
            return None;
        }
        let Ok(to) = policy.judge_datagram(peer, self.ports.shared()) else {
            self.counters.dropped_forbidden += 1;
            return None;
        };
        let Some(relay) = allocation.relay(family_of(to)).map(|held| held.relay) else {
            self.counters.dropped_no_permission += 1;
            return None;
        };
        let limit = allocation.limit();
        if !pass(now, &mut allocation.up, limit, &mut self.shard_up, self.shard_rate, payload.len()) {
            self.counters.dropped_bandwidth += 1;
            return None;
        }
        self.counters.up_packets += 1;
        self.counters.up_bytes += payload.len() as u64;
        let start = payload.as_ptr().addr() - message.as_bytes().as_ptr().addr();
        let dont_fragment = message.has(AttributeType::DONT_FRAGMENT);
        Some(Forward { relay, to, payload: start..start + payload.len(), dont_fragment })
    }

    /// A datagram from a peer. It lies at `payload` in `frame`, with [`HEAD_ROOM`] in front and [`TAIL_ROOM`] behind,
    /// into which the header and the padding are written.
    pub fn handle_peer(
        &mut self,
        now: Moment,
        relay: RelayKey,
        from: SocketAddr,
        frame: &mut [u8],
        payload: Range<usize>,
    ) -> Option<Deliver> {
        let key = self.owner_of(relay);
        let Some(allocation) = key.and_then(|key| self.allocations.get_mut(key)) else {
            self.counters.dropped_no_allocation += 1;
            return None;
        };
        let length = payload.len();
        let policy = &self.settings.policy;
        let channel = allocation.channel_from(from, now).copied();
        let is_permitted = |ip| allocation.permission(ip, now).is_some();
        // RFC 8656 §9: by address. Ours narrows it by port where the policy names ports.
        let peer = match channel {
            Some(channel) => Some(channel.peer).filter(|peer| is_permitted(peer.ip())),
            None => policy.name_for(from, is_permitted),
        };
        let relays = self.ports.shared();
        let Some(peer) = peer.filter(|peer| policy.judge_datagram(*peer, relays).is_ok()) else {
            self.counters.dropped_no_permission += 1;
            return None;
        };
        let path = allocation.path;
        let written = match channel {
            Some(channel) => write_channel_data(frame, payload, channel.number, path.is_stream()),
            None => {
                self.indications = self.indications.wrapping_add(1);
                write_data(frame, payload, peer, indication_id(self.indications, self.indication_salt))
            }
        };
        let Some(message) = written else {
            self.counters.dropped_oversized += 1;
            return None;
        };
        let limit = allocation.limit();
        if !pass(now, &mut allocation.down, limit, &mut self.shard_down, self.shard_rate, length) {
            self.counters.dropped_bandwidth += 1;
            return None;
        }
        self.counters.down_packets += 1;
        self.counters.down_bytes += length as u64;
        Some(Deliver { path, message })
    }

    /// An ICMP error for what an allocation sent to `peer`: told to its client if it may hear of that peer at all.
    pub fn handle_icmp(&mut self, now: Moment, relay: RelayKey, peer: SocketAddr, error: IcmpError) {
        // RFC 8656 §11.5: unreachable, time exceeded, and IPv6's packet too big.
        let tells = match peer {
            SocketAddr::V4(_) => matches!(error.kind, 3 | 11),
            SocketAddr::V6(_) => matches!(error.kind, 1..=3),
        };
        let key = self.owner_of(relay);
        let Some(allocation) = key.and_then(|key| self.allocations.get(key)).filter(|_| tells) else { return };
        let is_permitted = |ip| allocation.permission(ip, now).is_some();
        let Some(peer) = self.settings.policy.name_for(peer, is_permitted) else { return };
        let path = allocation.path;
        self.indications = self.indications.wrapping_add(1);
        let id = indication_id(self.indications, self.indication_salt);
        // Seven bits of type, nine of code.
        let type_and_code = u16::from(error.kind & 0x7F) << 9 | u16::from(error.code);
        let mut value = [0; 8];
        let (head, data) = value.split_at_mut(4);
        head.copy_from_slice(&u32::from(type_and_code).to_be_bytes());
        data.copy_from_slice(&error.data.to_be_bytes());
        let mut buffer = [0; 96];
        let length = MessageBuilder::new(&mut buffer, Class::Indication, Method::DATA, id)
            .xor_peer_address(peer)
            .attr(AttributeType::ICMP, &value)
            .finish();
        if let Some(message) = length.ok().and_then(|length| buffer.get(..length)) {
            self.counters.icmp_told += 1;
            self.reply(path, message);
        }
    }
}

/// Number and length of a payload that is all there (RFC 8656 §12.4). Which numbers may be bound is settled when they are.
fn read_channel_data(datagram: &[u8]) -> Option<(u16, usize)> {
    let (&[c0, c1, l0, l1], rest) = datagram.split_first_chunk::<{ channel_data::HEADER_LEN }>()?;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    (length <= rest.len()).then_some((u16::from_be_bytes([c0, c1]), length))
}

/// Counts a packet in one direction, unless the allocation's rate or the shard's is used up.
fn pass(now: Moment, meter: &mut Meter, limit: Rate, shard: &mut Bucket, shard_rate: Rate, bytes: usize) -> bool {
    let bytes = bytes as u64;
    if !meter.bucket.take(now, limit, bytes) || !shard.take(now, shard_rate, bytes) {
        return false;
    }
    meter.packets += 1;
    meter.bytes += bytes;
    true
}

/// RFC 8656 §12.5: over a stream the padding is sent too.
fn write_channel_data(frame: &mut [u8], payload: Range<usize>, number: u16, padded: bool) -> Option<Range<usize>> {
    let header = channel_data::header(number, payload.len())?;
    let start = payload.start.checked_sub(header.len())?;
    frame.get_mut(start..payload.start)?.copy_from_slice(&header);
    let padding = if padded { payload.len().next_multiple_of(4) - payload.len() } else { 0 };
    let end = payload.end + padding;
    frame.get_mut(payload.end..end)?.fill(0);
    Some(start..end)
}

/// A Data indication around a payload that is already there: header, XOR-PEER-ADDRESS, DATA.
fn write_data(frame: &mut [u8], payload: Range<usize>, peer: SocketAddr, id: TransactionId) -> Option<Range<usize>> {
    let data_at = payload.start.checked_sub(4)?;
    let address = if peer.is_ipv4() { 12 } else { 24 };
    let start = data_at.checked_sub(HEADER_LEN + address)?;
    let head = frame.get_mut(start..data_at)?;
    MessageBuilder::new(head, Class::Indication, Method::DATA, id).xor_peer_address(peer).finish().ok()?;
    let padded = payload.len().next_multiple_of(4);
    let body = u16::try_from(address + 4 + padded).ok()?;
    frame.get_mut(start + 2..start + 4)?.copy_from_slice(&body.to_be_bytes());
    let [t0, t1] = AttributeType::DATA.0.to_be_bytes();
    let [l0, l1] = u16::try_from(payload.len()).ok()?.to_be_bytes();
    frame.get_mut(data_at..payload.start)?.copy_from_slice(&[t0, t1, l0, l1]);
    let end = payload.start + padded;
    frame.get_mut(payload.end..end)?.fill(0);
    Some(start..end)
}

/// Nobody answers an indication: its id need only be new.
fn indication_id(count: u64, salt: u64) -> TransactionId {
    let mut id = [0; 12];
    let (high, low) = id.split_at_mut(4);
    high.copy_from_slice(&(salt as u32).to_be_bytes());
    low.copy_from_slice(&(count ^ salt).to_be_bytes());
    TransactionId(id)
}
