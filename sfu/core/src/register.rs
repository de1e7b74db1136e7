//! Who is meant: rooms and legs by their ids, browsers by the fragment in their checks, senders by their address.
use crate::leg::LegKey;
use crate::room::RoomKey;
use offhook_contract::RoomId;
use std::collections::HashMap;
use std::net::SocketAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Peer(LegKey),
    /// Several Links may share a socket of the other daemon; the SSRC tells them apart.
    Links(usize),
}

#[derive(Default)]
pub struct Register {
    pub rooms: HashMap<RoomId, RoomKey>,
    fragments: HashMap<String, LegKey>,
    routes: HashMap<SocketAddr, Route>,
    links: HashMap<(SocketAddr, u32), LegKey>,
}

impl Register {
    pub fn add_fragment(&mut self, ufrag: &str, leg: LegKey) {
        self.fragments.insert(ufrag.to_owned(), leg);
    }
    pub fn remove_fragment(&mut self, ufrag: &str) {
        self.fragments.remove(ufrag);
    }
    pub fn by_fragment(&self, ufrag: &str) -> Option<LegKey> {
        self.fragments.get(ufrag).copied()
    }

    /// An authenticated check came from there. A Link's address is never taken over.
    pub fn add_peer_address(&mut self, address: SocketAddr, leg: LegKey) -> bool {
        match self.routes.get(&address) {
            Some(Route::Links(_)) => false,
            _ => {
                self.routes.insert(address, Route::Peer(leg));
                true
            }
        }
    }

    pub fn remove_peer_address(&mut self, address: SocketAddr, leg: LegKey) {
        if self.routes.get(&address) == Some(&Route::Peer(leg)) {
            self.routes.remove(&address);
        }
    }

    pub fn is_link_free(&self, address: SocketAddr, ssrc: u32) -> bool {
        !self.links.contains_key(&(address, ssrc))
    }

    pub fn add_link(&mut self, address: SocketAddr, ssrc: u32, leg: LegKey) {
        self.links.insert((address, ssrc), leg);
        match self.routes.get_mut(&address) {
            Some(Route::Links(count)) => *count += 1,
            _ => {
                self.routes.insert(address, Route::Links(1));
            }
        }
    }

    pub fn remove_link(&mut self, address: SocketAddr, ssrc: u32) {
        if self.links.remove(&(address, ssrc)).is_some()
            && let Some(Route::Links(count)) = self.routes.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.routes.remove(&address);
            }
        }
    }

    /// The leg that a media or DTLS datagram belongs to. `ssrc` is the sender's as written in the datagram.
    pub fn by_address(&self, address: SocketAddr, ssrc: impl FnOnce() -> Option<u32>) -> Option<LegKey> {
        match self.routes.get(&address)? {
            Route::Peer(leg) => Some(*leg),
            Route::Links(_) => self.links.get(&(address, ssrc()?)).copied(),
        }
    }

    pub fn addresses(&self) -> usize {
        self.routes.len()
    }
}
