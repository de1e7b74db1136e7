//! The table of client transactions: requests we sent, by branch.

use super::{ClientInvite, ClientNonInvite, Effects, Timer, TxId};
use crate::api::LegHandle;
use offhook_wire_sip::{Message, Method, Name, RequestBuilder};
use std::collections::HashMap;
use std::net::SocketAddr;

/// Who waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Leg(LegHandle),
    /// The registration of the trunk with this number.
    Registration(usize),
    KeepAlive(usize),
    /// A CANCEL, or the BYE of a fork: nobody cares.
    Nobody,
}

/// A request to be sent.
#[derive(Debug)]
pub(crate) struct ClientRequest {
    pub owner: Owner,
    pub trunk: usize,
    pub method: Method,
    pub branch: String,
    pub to: SocketAddr,
    pub local: SocketAddr,
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
enum Machine {
    Invite(ClientInvite),
    Other(ClientNonInvite),
}

#[derive(Debug)]
struct Client {
    request: ClientRequest,
    machine: Machine,
    /// The ACK of a refusal.
    ack: Option<Vec<u8>>,
    /// ACKs of 2xx by the tag of their sender; repeated 2xx get the same again (RFC 3261 §13.2.2.4).
    acked: Vec<(String, SocketAddr, Vec<u8>)>,
}

/// Forks whose 2xx we remember; more are not acknowledged.
const MAX_FORKS: usize = 8;

/// What a response led to.
#[derive(Debug)]
pub(crate) struct Received {
    pub id: TxId,
    pub owner: Owner,
    pub effects: Effects,
}

/// All requests that wait for their answers or absorb repeated ones.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    by_id: HashMap<TxId, Client>,
    by_branch: HashMap<(String, Method), TxId>,
}

impl Clients {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn start(&mut self, id: TxId, request: ClientRequest) -> Effects {
        let mut fx = Effects::default();
        let machine = if request.method == Method::Invite {
            Machine::Invite(ClientInvite::start(&mut fx))
        } else {
            Machine::Other(ClientNonInvite::start(&mut fx))
        };
        self.by_branch.insert((request.branch.clone(), request.method.clone()), id);
        self.by_id.insert(id, Client { request, machine, ack: None, acked: Vec::new() });
        fx
    }

    /// Finds the transaction of a response (RFC 3261 §17.1.3).
    pub fn find(&self, response: &Message<'_>) -> Option<TxId> {
        let branch = response.via().branch()?;
        self.by_branch.get(&(branch.to_owned(), response.method().clone())).copied()
    }

    pub fn trunk(&self, id: TxId) -> Option<usize> {
        self.by_id.get(&id).map(|client| client.request.trunk)
    }

    pub fn request(&self, id: TxId) -> Option<&ClientRequest> {
        self.by_id.get(&id).map(|client| &client.request)
    }

    pub fn on_response(&mut self, id: TxId, response: &Message<'_>) -> Option<Received> {
        let client = self.by_id.get_mut(&id)?;
        let code = response.code()?;
        let mut fx = Effects::default();
        match &mut client.machine {
            Machine::Invite(machine) => machine.on_response(code, &mut fx),
            Machine::Other(machine) => machine.on_response(code, &mut fx),
        }
        if fx.ack && client.ack.is_none() {
            client.ack = ack_of_refusal(&client.request.bytes, response);
        }
        Some(Received { id, owner: client.request.owner, effects: fx })
    }

    pub fn on_timer(&mut self, id: TxId, timer: Timer) -> Option<(Owner, Effects)> {
        let client = self.by_id.get_mut(&id)?;
        let mut fx = Effects::default();
        match &mut client.machine {
            Machine::Invite(machine) => machine.on_timer(timer, &mut fx),
            Machine::Other(machine) => machine.on_timer(timer, &mut fx),
        }
        Some((client.request.owner, fx))
    }

    /// Remembers the ACK of a 2xx.
    pub fn acknowledge(&mut self, id: TxId, tag: &str, to: SocketAddr, ack: Vec<u8>) {
        if let Some(client) = self.by_id.get_mut(&id).filter(|client| client.acked.len() < MAX_FORKS) {
            client.acked.push((tag.to_owned(), to, ack));
        }
    }

    /// The ACK already sent to the sender with this tag.
    pub fn acknowledged(&self, id: TxId, tag: &str) -> Option<(SocketAddr, Vec<u8>)> {
        let client = self.by_id.get(&id)?;
        client.acked.iter().find(|(known, ..)| known == tag).map(|(_, to, ack)| (*to, ack.clone()))
    }

    pub fn forks(&self, id: TxId) -> usize {
        self.by_id.get(&id).map_or(0, |client| client.acked.len())
    }

    /// Bytes to repeat: the request, or the ACK of a refusal.
    pub fn bytes(&self, id: TxId, ack: bool) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
        let client = self.by_id.get(&id)?;
        let bytes = if ack { client.ack.clone()? } else { client.request.bytes.clone() };
        Some((client.request.to, client.request.local, bytes))
    }

    pub fn remove(&mut self, id: TxId) {
        if let Some(client) = self.by_id.remove(&id) {
            self.by_branch.remove(&(client.request.branch, client.request.method));
        }
    }
}

/// RFC 3261 §17.1.1.3: same branch, same route, the To of the refusal.
fn ack_of_refusal(request: &[u8], response: &Message<'_>) -> Option<Vec<u8>> {
    let request = Message::parse(request).ok()?;
    let uri = request.request_uri()?.as_str();
    RequestBuilder::new(&Method::Ack, uri)
        .header(Name::Via, request.header(Name::Via)?)
        .each(Name::Route, request.values(Name::Route))
        .header(Name::From, request.header(Name::From)?)
        .header(Name::To, response.headers().iter().find(|header| header.name == Name::To)?.text())
        .header(Name::CallId, request.call_id())
        .header(Name::CSeq, format!("{} ACK", request.cseq().number))
        .header(Name::MaxForwards, "70")
        .to_bytes()
        .ok()
}
