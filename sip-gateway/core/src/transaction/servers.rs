//! The table of server transactions: requests we got, by branch and sender.

use super::{Effects, ServerInvite, ServerNonInvite, Timer, TxId};
use crate::api::LegHandle;
use offhook_wire_sip::{Message, Method};
use std::collections::HashMap;
use std::net::SocketAddr;

/// RFC 3261 §17.2.3: branch, sent-by and method; the trunk too, so that one carrier cannot meet another's transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    branch: String,
    sent_by: String,
    method: Method,
    trunk: usize,
}

/// RFC 3261 §8.2.2.2: the same request over two paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct MergeKey {
    call_id: String,
    from_tag: String,
    number: u32,
    method: Method,
}

#[derive(Debug)]
enum Machine {
    Invite(ServerInvite),
    Other(ServerNonInvite),
}

#[derive(Debug)]
struct Server {
    key: Key,
    merge: Option<MergeKey>,
    machine: Machine,
    last: Option<Vec<u8>>,
    reply_to: SocketAddr,
    local: SocketAddr,
    leg: Option<LegHandle>,
}

/// What a request is to the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A new transaction would begin.
    New,
    /// It came before; the effects answer it.
    Repeat(TxId, Effects),
    /// An ACK of a refusal, or one in a transaction whose 2xx it acknowledges (`effects.deliver`).
    Ack(TxId, Effects),
    /// It came before on another path; 482.
    Merged,
}

/// All requests being answered or still absorbing repetitions.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    by_id: HashMap<TxId, Server>,
    by_key: HashMap<Key, TxId>,
    by_merge: HashMap<MergeKey, TxId>,
}

impl Servers {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn classify(&mut self, request: &Message<'_>, trunk: usize) -> Arrival {
        let key = key_of(request, trunk);
        if let Some(&id) = self.by_key.get(&key) {
            let mut fx = Effects::default();
            let Some(server) = self.by_id.get_mut(&id) else { return Arrival::New };
            if *request.method() == Method::Ack {
                if let Machine::Invite(machine) = &mut server.machine {
                    machine.on_ack(&mut fx);
                }
                return Arrival::Ack(id, fx);
            }
            match &mut server.machine {
                Machine::Invite(machine) => machine.on_repeat(&mut fx),
                Machine::Other(machine) => machine.on_repeat(&mut fx),
            }
            return Arrival::Repeat(id, fx);
        }
        match merge_key(request) {
            Some(merge) if self.by_merge.contains_key(&merge) => Arrival::Merged,
            _ => Arrival::New,
        }
    }

    /// Begins the transaction of a request that [`Self::classify`] called new.
    pub fn start(&mut self, id: TxId, request: &Message<'_>, trunk: usize, source: SocketAddr, local: SocketAddr) {
        let key = key_of(request, trunk);
        let merge = merge_key(request);
        let machine = if *request.method() == Method::Invite {
            Machine::Invite(ServerInvite::Proceeding)
        } else {
            Machine::Other(ServerNonInvite::Trying)
        };
        self.by_key.insert(key.clone(), id);
        if let Some(merge) = &merge {
            self.by_merge.insert(merge.clone(), id);
        }
        let reply_to = request.via().response_address(source);
        self.by_id.insert(id, Server { key, merge, machine, last: None, reply_to, local, leg: None });
    }

    /// The leg that an INVITE opened or belongs to.
    pub fn set_leg(&mut self, id: TxId, leg: LegHandle) {
        if let Some(server) = self.by_id.get_mut(&id) {
            server.leg = Some(leg);
        }
    }

    /// The INVITE that a CANCEL means (RFC 3261 §9.2), if there is one: its leg, while it is unanswered.
    pub fn cancelled_by(&self, cancel: &Message<'_>, trunk: usize) -> Option<Option<LegHandle>> {
        let key = Key { method: Method::Invite, ..key_of(cancel, trunk) };
        let server = self.by_id.get(self.by_key.get(&key)?)?;
        let open = matches!(&server.machine, Machine::Invite(machine) if machine.is_open());
        Some(server.leg.filter(|_| open))
    }

    /// Answers; `None` if the transaction is gone or already answered.
    pub fn respond(&mut self, id: TxId, code: u16, bytes: Vec<u8>) -> Option<Effects> {
        let server = self.by_id.get_mut(&id)?;
        let mut fx = Effects::default();
        let possible = match &mut server.machine {
            Machine::Invite(machine) => machine.respond(code, &mut fx),
            Machine::Other(machine) => machine.respond(code, &mut fx),
        };
        if possible {
            server.last = Some(bytes);
        }
        possible.then_some(fx)
    }

    pub fn on_timer(&mut self, id: TxId, timer: Timer) -> Option<Effects> {
        let server = self.by_id.get_mut(&id)?;
        let mut fx = Effects::default();
        match &mut server.machine {
            Machine::Invite(machine) => machine.on_timer(timer, &mut fx),
            Machine::Other(machine) => machine.on_timer(timer, &mut fx),
        }
        Some(fx)
    }

    /// The last response, to be repeated.
    pub fn bytes(&self, id: TxId) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
        let server = self.by_id.get(&id)?;
        Some((server.reply_to, server.local, server.last.clone()?))
    }

    pub fn remove(&mut self, id: TxId) {
        let Some(server) = self.by_id.remove(&id) else { return };
        self.by_key.remove(&server.key);
        if let Some(merge) = server.merge {
            self.by_merge.remove(&merge);
        }
    }
}

fn key_of(request: &Message<'_>, trunk: usize) -> Key {
    let via = request.via();
    let sent_by = format!("{}:{}", via.host, via.port.unwrap_or(5060)).to_ascii_lowercase();
    let method = match request.method() {
        Method::Ack => Method::Invite,
        method => method.clone(),
    };
    let branch = match via.magic_branch() {
        Some(branch) => branch.to_owned(),
        // RFC 3261 §17.2.3 for peers of RFC 2543: the request is known by its dialog and number.
        None => {
            let tag = request.from().tag().unwrap_or_default();
            format!("2543 {} {tag} {} {}", request.call_id(), request.cseq().number, via.branch().unwrap_or_default())
        }
    };
    Key { branch, sent_by, method, trunk }
}

/// Only requests outside dialogs merge; ACK and CANCEL belong to another request.
fn merge_key(request: &Message<'_>) -> Option<MergeKey> {
    if request.to().tag().is_some() || matches!(request.method(), Method::Ack | Method::Cancel) {
        return None;
    }
    Some(MergeKey {
        call_id: request.call_id().to_owned(),
        from_tag: request.from().tag()?.to_owned(),
        number: request.cseq().number,
        method: request.method().clone(),
    })
}
