//! CreatePermission (RFC 8656 §10.2) and ChannelBind (§12.2).
use crate::allocation::{AllocationKey, Channel, Permission, push_sparingly};
use crate::auth::Login;
use crate::policy::canonical_socket;
use crate::reply::Asked;
use crate::request::Refused;
use crate::shard::Shard;
use offhook_shard::Moment;
use offhook_wire_stun::{AttributeType, Message};
use std::net::{IpAddr, SocketAddr};

impl Shard {
    pub(crate) fn create_permission(
        &mut self,
        now: Moment,
        asked: &Asked,
        request: &Message<'_>,
        login: &Login,
        key: AllocationKey,
    ) -> Result<(), Refused> {
        if !request.has(AttributeType::XOR_PEER_ADDRESS) {
            return Err(Refused::BadRequest("XOR-PEER-ADDRESS is missing"));
        }
        // All of them or none: every one is judged before the first is let in.
        for peer in request.xor_peer_addresses() {
            self.judge_permission(key, peer?)?;
        }
        let peers = || request.xor_peer_addresses().flatten().map(|peer| canonical_socket(peer).ip());
        self.make_room(now, key, peers(), None)?;
        for peer in peers() {
            self.permit(now, key, peer);
        }
        self.succeed(asked, &login.seal, |_| {});
        Ok(())
    }

    pub(crate) fn bind_channel(
        &mut self,
        now: Moment,
        asked: &Asked,
        request: &Message<'_>,
        login: &Login,
        key: AllocationKey,
    ) -> Result<(), Refused> {
        let number = request.channel_number()?.ok_or(Refused::BadRequest("CHANNEL-NUMBER is missing"))?;
        let peer = request.xor_peer_address()?.ok_or(Refused::BadRequest("XOR-PEER-ADDRESS is missing"))?;
        if !self.settings.channel_numbers.contains(&number) {
            return Err(Refused::BadRequest("CHANNEL-NUMBER is outside the range that may be bound"));
        }
        let named = canonical_socket(peer);
        let Some(allocation) = self.allocations.get(key) else { return Err(Refused::NoAllocation) };
        // Neither the number nor the peer may be bound to another.
        if allocation.channel(number, now).is_some_and(|channel| channel.peer != named) {
            return Err(Refused::BadRequest("the channel is bound to another peer"));
        }
        if allocation.channel_of_peer(named, now).is_some_and(|channel| channel.number != number) {
            return Err(Refused::BadRequest("the peer is bound to another channel"));
        }
        let local = self.judge_peer(key, peer)?;
        if named.port() == 0 {
            return Err(Refused::BadRequest("a channel to port 0"));
        }
        self.make_room(now, key, std::iter::once(named.ip()), Some(number))?;
        // RFC 8656 §12: a binding carries a permission with it.
        self.permit(now, key, named.ip());
        let ends = now.after(self.settings.channel_lifetime);
        if let Some(allocation) = self.allocations.get_mut(key) {
            let at_relay = self.ports.shared().owner(local).is_some();
            let bound = Channel { number, peer: named, local, at_relay, ends };
            match allocation.channels.iter_mut().find(|channel| channel.number == number) {
                Some(channel) => *channel = bound,
                None => push_sparingly(&mut allocation.channels, bound),
            }
        }
        self.succeed(asked, &login.seal, |_| {});
        Ok(())
    }

    /// RFC 8656 §10.2: a permission has no port. One that was written nevertheless is the one that will be used.
    fn judge_permission(&self, key: AllocationKey, peer: SocketAddr) -> Result<(), Refused> {
        if peer.port() != 0 {
            return self.judge_peer(key, peer).map(|_| ());
        }
        self.settings.policy.judge_address(peer.ip())?;
        let has_relay = self.allocations.get(key).is_some_and(|a| a.has_family_of(canonical_socket(peer)));
        if has_relay { Ok(()) } else { Err(Refused::PeerFamily) }
    }

    /// 403 before 443: a forbidden address is forbidden in any family.
    fn judge_peer(&self, key: AllocationKey, peer: SocketAddr) -> Result<SocketAddr, Refused> {
        let local = self.settings.policy.judge(peer, self.ports.shared())?;
        let has_relay = self.allocations.get(key).is_some_and(|allocation| allocation.has_family_of(local));
        if has_relay { Ok(local) } else { Err(Refused::PeerFamily) }
    }

    /// Caps on what one allocation may hold, and on how fast it may name what it did not hold.
    fn make_room(
        &mut self,
        now: Moment,
        key: AllocationKey,
        peers: impl Iterator<Item = IpAddr>,
        channel: Option<u16>,
    ) -> Result<(), Refused> {
        let settings = &self.settings;
        let Some(allocation) = self.allocations.get_mut(key) else { return Err(Refused::NoAllocation) };
        allocation.forget_ended(now);
        let new = peers.filter(|peer| allocation.permission(*peer, now).is_none()).count();
        let new_channel = channel.is_some_and(|number| allocation.channel(number, now).is_none());
        if allocation.permissions.len() + new > settings.permissions_max
            || new_channel && allocation.channels.len() >= settings.channels_max
        {
            return Err(Refused::TooManyPeers);
        }
        if new > 0 && !allocation.new_peers.take(now, settings.new_peers, new as u64) {
            return Err(Refused::NewPeersTooFast);
        }
        Ok(())
    }

    fn permit(&mut self, now: Moment, key: AllocationKey, peer: IpAddr) {
        let ends = now.after(self.settings.permission_lifetime);
        let Some(allocation) = self.allocations.get_mut(key) else { return };
        match allocation.permissions.iter_mut().find(|permission| permission.peer == peer) {
            Some(permission) => permission.ends = ends,
            None => push_sparingly(&mut allocation.permissions, Permission { peer, ends }),
        }
    }
}
