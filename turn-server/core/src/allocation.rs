//! One client's allocation: its relays, permissions, channels and what it carried.
use crate::auth::Seal;
use crate::ledger::Grant;
use crate::open::Opening;
use crate::path::ClientPath;
use offhook_shard::Key;
use offhook_shard::{Bucket, Moment, Rate};
use offhook_wire_stun::{AddressFamily, TransactionId};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub(crate) type AllocationKey = Key<Allocation>;
/// Names a relay socket between core and shell.
pub type RelayKey = Key<Relay>;

pub(crate) struct Allocation {
    pub(crate) path: ClientPath,
    pub(crate) user: Arc<str>,
    /// Whose quota it takes from; the user, unless the name bears a time.
    pub(crate) account: Arc<str>,
    /// The key under which it was made; later requests of the same user need no look-up.
    pub(crate) seal: Seal,
    pub(crate) grant: Option<Grant>,
    pub(crate) phase: Phase,
    /// IPv4 or IPv6, and with ADDITIONAL-ADDRESS-FAMILY both (RFC 8656 §2.9).
    pub(crate) relays: [Option<Held>; 2],
    pub(crate) permissions: Vec<Permission>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) new_peers: Bucket,
    /// Refusals on its path.
    pub(crate) refusals: Bucket,
    pub(crate) up: Meter,
    pub(crate) down: Meter,
    pub(crate) began: Moment,
    /// When its timer is due; it is never later than the first relay's end.
    pub(crate) timer: Moment,
}

/// Sockets take a moment to open.
pub(crate) enum Phase {
    Opening(Box<Opening>),
    Live(Created),
}

/// What a repeated Allocate is answered with (RFC 8656 §7.2: the same answer again).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Created {
    pub(crate) transaction: TransactionId,
    pub(crate) lifetime_s: u32,
    pub(crate) token: Option<[u8; 8]>,
    /// The other family could not be had: ADDRESS-ERROR-CODE.
    pub(crate) failed_family: Option<(AddressFamily, u16)>,
}

/// A relay of an allocation, and until when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) relay: RelayKey,
    pub(crate) family: AddressFamily,
    pub(crate) ends: Moment,
}

/// A relay socket: the shell holds the descriptor, we hold the port.
pub struct Relay {
    pub(crate) owner: AllocationKey,
    pub(crate) local: SocketAddr,
    pub(crate) announced: SocketAddr,
    /// Which of the relay addresses its port belongs to.
    pub(crate) place: usize,
}

/// RFC 8656 §9: by address, whatever the port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permission {
    pub(crate) peer: IpAddr,
    pub(crate) ends: Moment,
}

/// RFC 8656 §12. `peer` is what the client calls it, `local` where its packets go and come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Channel {
    pub(crate) number: u16,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    /// Another client's relay stands there: when that has ended, whoever has the port next is none of our business.
    pub(crate) at_relay: bool,
    pub(crate) ends: Moment,
}

/// One direction of an allocation.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meter {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) bucket: Bucket,
}

impl Allocation {
    pub(crate) const fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live(_))
    }

    pub(crate) fn relay(&self, family: AddressFamily) -> Option<&Held> {
        self.relays.iter().flatten().find(|held| held.family == family)
    }

    pub(crate) fn has_family_of(&self, address: SocketAddr) -> bool {
        self.relay(family_of(address)).is_some()
    }

    pub(crate) fn permission(&self, peer: IpAddr, now: Moment) -> Option<&Permission> {
        self.permissions.iter().find(|permission| permission.peer == peer && permission.ends > now)
    }

    pub(crate) fn channel(&self, number: u16, now: Moment) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.number == number && channel.ends > now)
    }

    pub(crate) fn channel_from(&self, local: SocketAddr, now: Moment) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.local == local && channel.ends > now)
    }

    pub(crate) fn channel_of_peer(&self, peer: SocketAddr, now: Moment) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.peer == peer && channel.ends > now)
    }

    /// What has ended makes room; the memory of a busy minute goes back.
    pub(crate) fn forget_ended(&mut self, now: Moment) {
        self.permissions.retain(|permission| permission.ends > now);
        self.channels.retain(|channel| channel.ends > now);
        shrink(&mut self.permissions);
        shrink(&mut self.channels);
    }

    /// What the ledger granted, in each direction.
    pub(crate) fn limit(&self) -> Rate {
        Rate::bytes(self.grant.as_ref().map_or(0, |grant| grant.bytes_per_second))
    }

    pub(crate) fn first_end(&self) -> Option<Moment> {
        self.relays.iter().flatten().map(|held| held.ends).min()
    }
}

/// Grows by few: a table of one entry is the usual one, and there are many tables.
pub(crate) fn push_sparingly<T>(table: &mut Vec<T>, entry: T) {
    if table.len() == table.capacity() {
        table.reserve_exact(table.len().clamp(1, 8));
    }
    table.push(entry);
}

fn shrink<T>(table: &mut Vec<T>) {
    if table.capacity() > table.len() + 8 {
        table.shrink_to_fit();
    }
}

pub(crate) const fn family_of(address: SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::V4,
        SocketAddr::V6(_) => AddressFamily::V6,
    }
}
