//! A datagram's way in: source, grammar, then the transaction, the dialog or the method it belongs to.

use super::SipEndpoint;
use crate::api::{LegHandle, Now, Refusal};
use crate::core::ALLOW;
use crate::transaction::{Arrival, Owner, TxId};
use offhook_wire_sip::{Message, Method, Name, ParseError, refusal};
use std::net::SocketAddr;

/// A request that passed the transaction layer, with all that belongs to it.
pub(super) struct Request<'a> {
    pub message: &'a Message<'a>,
    pub bytes: &'a [u8],
    pub from: SocketAddr,
    pub to_local: SocketAddr,
    /// The first trunk that admits the source; see [`SipEndpoint::trunk_of_call`] for the one that owns a call.
    pub group: usize,
}

impl SipEndpoint {
    pub(super) fn on_datagram(&mut self, now: Now, from: SocketAddr, to_local: SocketAddr, bytes: &[u8]) {
        self.core.stats.datagrams_in += 1;
        // Before anything is read: strangers get no word and cost no state.
        let Some(group) = self.core.admitting(from.ip()) else {
            self.core.stats.unknown_source += 1;
            return self.core.refuse(now, from, Refusal::UnknownSource);
        };
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(ParseError::KeepAlive) => return,
            Err(error) => return self.on_malformed(now, from, to_local, bytes, error),
        };
        if message.is_request() {
            self.on_request(now, &Request { message: &message, bytes, from, to_local, group });
        } else {
            self.on_response(now, from, &message);
        }
    }

    fn on_malformed(&mut self, now: Now, from: SocketAddr, to_local: SocketAddr, bytes: &[u8], error: ParseError) {
        self.core.stats.malformed += 1;
        let tag = self.core.tag();
        if let Some((bytes, to)) = refusal(bytes, &error, from, &tag) {
            self.core.transmit(to, to_local, bytes);
        }
        self.core.refuse(now, from, Refusal::Malformed(error));
    }

    /// RFC 3261 §18.1.2: a response belongs to a transaction; and it must come from that transaction's trunk.
    fn on_response(&mut self, now: Now, from: SocketAddr, response: &Message<'_>) {
        // RFC 3261 §8.1.3.3: more than one Via means that it was meant for somebody behind us.
        let found = self.core.clients.find(response).filter(|_| response.vias().len() == 1);
        let own = found.filter(|&tx| {
            let slot = self.core.clients.trunk(tx).and_then(|trunk| self.core.slot(trunk));
            slot.is_some_and(|slot| slot.trunk.admits(from.ip()))
        });
        let Some(tx) = own else {
            self.core.stats.stray_responses += 1;
            return self.core.refuse(now, from, Refusal::StrayResponse);
        };
        if self.repeats_ack(tx, response) {
            return;
        }
        let Some(received) = self.core.clients.on_response(tx, response) else { return };
        self.core.stats.retransmissions_in += u64::from(!received.effects.deliver);
        self.core.apply_client(now, tx, &received.effects);
        if !received.effects.deliver {
            return;
        }
        match received.owner {
            Owner::Leg(handle) if self.legs.contains_key(&handle) => {
                self.visit(handle, |leg, core| leg.on_response(core, now, tx, response, from));
            }
            // The leg is gone, but one more callee answered.
            Owner::Leg(_) if *response.method() == Method::Invite && response.code().is_some_and(|c| c / 100 == 2) => {
                crate::call::decline(&mut self.core, now, tx, response, from);
            }
            owner => self.agents.on_response(&mut self.core, now, owner, received.id, response),
        }
    }

    /// A repeated 2xx gets its ACK again and goes no further.
    fn repeats_ack(&mut self, tx: TxId, response: &Message<'_>) -> bool {
        let tag = response.to().tag().unwrap_or_default();
        if response.code().is_none_or(|code| code / 100 != 2) {
            return false;
        }
        let Some((to, ack)) = self.core.clients.acknowledged(tx, tag) else { return false };
        let Some(local) = self.core.clients.request(tx).map(|request| request.local) else { return false };
        self.core.stats.retransmissions_in += 1;
        self.core.transmit(to, local, ack);
        true
    }

    fn on_request(&mut self, now: Now, request: &Request<'_>) {
        match self.core.servers.classify(request.message, request.group) {
            Arrival::Repeat(tx, fx) => {
                self.core.stats.retransmissions_in += 1;
                self.core.apply_server(now, tx, &fx);
            }
            Arrival::Ack(tx, fx) => {
                self.core.apply_server(now, tx, &fx);
                if fx.deliver {
                    self.on_dialog_request(now, request, None);
                }
            }
            Arrival::Merged => self.refuse_statelessly(now, request, 482, &[]),
            Arrival::New if *request.message.method() == Method::Ack => self.on_dialog_request(now, request, None),
            Arrival::New if self.core.is_full() => {
                self.core.stats.overload += 1;
                self.refuse_statelessly(now, request, 503, &[(Name::RetryAfter, "10")]);
            }
            Arrival::New => {
                let tx = TxId(self.core.next_id());
                self.core.servers.start(tx, request.message, request.group, request.from, request.to_local);
                self.on_new_request(now, request, tx);
            }
        }
    }

    fn on_new_request(&mut self, now: Now, request: &Request<'_>, tx: TxId) {
        let message = request.message;
        let method = message.method();
        if *method == Method::Cancel {
            return self.on_cancel(now, request, tx);
        }
        // RFC 3261 §8.2.2.3: we have no extensions, so any that is required is unknown.
        let required: Vec<&str> = message.values(Name::Require).collect();
        if !required.is_empty() {
            return self.refuse(now, request, tx, 420, &[(Name::Unsupported, &required.join(", "))]);
        }
        if message.to().tag().is_some() {
            return self.on_dialog_request(now, request, Some(tx));
        }
        match method {
            Method::Invite => self.on_invite(now, request, tx),
            // Tells a carrier that balances by OPTIONS to send its calls elsewhere.
            Method::Options if self.draining => {
                self.core.answer_plainly(now, tx, message, request.from, 503, &[(Name::RetryAfter, "10")]);
            }
            Method::Options => {
                let headers = [(Name::Allow, ALLOW), (Name::Accept, "application/sdp")];
                self.core.answer_plainly(now, tx, message, request.from, 200, &headers);
            }
            Method::Bye | Method::Update | Method::Info | Method::Prack => {
                self.core.stats.no_dialog += 1;
                self.core.refuse(now, request.from, Refusal::NoDialog);
                self.core.answer_plainly(now, tx, message, request.from, 481, &[]);
            }
            Method::Other(_) => self.refuse_method(now, request, tx, 501),
            _ => self.refuse_method(now, request, tx, 405),
        }
    }

    fn refuse_method(&mut self, now: Now, request: &Request<'_>, tx: TxId, code: u16) {
        self.core.stats.refused_requests += 1;
        let method: String = request.message.method().as_str().chars().take(32).collect();
        self.core.refuse(now, request.from, Refusal::Method(method));
        self.core.answer_plainly(now, tx, request.message, request.from, code, &[(Name::Allow, ALLOW)]);
    }

    /// RFC 3261 §9.2: 200 to the CANCEL, whatever becomes of its INVITE; 481 if there is none.
    fn on_cancel(&mut self, now: Now, request: &Request<'_>, tx: TxId) {
        let message = request.message;
        let Some(leg) = self.core.servers.cancelled_by(message, request.group) else {
            self.core.stats.no_dialog += 1;
            self.core.refuse(now, request.from, Refusal::NoDialog);
            return self.core.answer_plainly(now, tx, message, request.from, 481, &[]);
        };
        self.core.answer_plainly(now, tx, message, request.from, 200, &[]);
        let q850 = message.reasons().find_map(|reason| reason.q850());
        if let Some(handle) = leg {
            self.visit(handle, |leg, core| leg.on_cancel(core, now, q850));
        }
    }

    /// A request with a To tag: its dialog is found by Call-ID and our tag, and must belong to the sender's trunk.
    fn on_dialog_request(&mut self, now: Now, request: &Request<'_>, tx: Option<TxId>) {
        let message = request.message;
        let tag = message.to().tag().unwrap_or_default();
        let handle = self.dialogs.get(&(message.call_id().to_owned(), tag.to_owned())).copied();
        if handle.is_some_and(|handle| !self.may_speak_for(handle, request.from)) {
            self.core.stats.foreign_dialog += 1;
            // No answer: the carrier of another trunk learns nothing about this one's calls.
            if let Some(tx) = tx {
                self.core.servers.remove(tx);
            }
            return self.core.refuse(now, request.from, Refusal::ForeignDialog);
        }
        let mut served = false;
        if let Some(handle) = handle {
            if let Some(tx) = tx.filter(|_| *message.method() == Method::Invite) {
                self.core.servers.set_leg(tx, handle);
            }
            self.visit(handle, |leg, core| served = leg.on_request(core, now, tx, message, request.from));
        }
        if served {
            return;
        }
        self.core.stats.no_dialog += 1;
        if let Some(tx) = tx {
            self.core.refuse(now, request.from, Refusal::NoDialog);
            self.core.answer_plainly(now, tx, message, request.from, 481, &[]);
        }
    }

    fn may_speak_for(&self, handle: LegHandle, source: SocketAddr) -> bool {
        let slot = self.legs.get(&handle).and_then(|leg| self.core.slot(leg.trunk()));
        slot.is_some_and(|slot| slot.trunk.admits(source.ip()))
    }

    /// A refusal in its transaction, told and counted.
    pub(super) fn refuse(&mut self, now: Now, request: &Request<'_>, tx: TxId, code: u16, headers: &[(Name, &str)]) {
        self.core.stats.refused_requests += 1;
        self.core.refuse(now, request.from, Refusal::Answered(code));
        self.core.answer_plainly(now, tx, request.message, request.from, code, headers);
    }

    /// A refusal that leaves no state; a repeated request gets it again.
    fn refuse_statelessly(&mut self, now: Now, request: &Request<'_>, code: u16, headers: &[(Name, &str)]) {
        let reason = if code == 503 { Refusal::Overload } else { Refusal::Answered(code) };
        self.core.refuse(now, request.from, reason);
        let tag = self.core.tag();
        let builder = self.core.response_builder(request.message, code, request.from, &tag);
        let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, value));
        if let Ok(bytes) = builder.to_bytes() {
            self.core.transmit(request.message.via().response_address(request.from), request.to_local, bytes);
        }
    }
}
