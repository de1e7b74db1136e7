//! A 2xx that nobody wants: from a second callee behind a forking proxy, or too late for a call given up. It is
//! acknowledged and its dialog ended at once (RFC 3261 §13.2.2.4 and §15).

use crate::api::Now;
use crate::cause::reason_header;
use crate::core::Core;
use crate::dialog::Dialog;
use crate::transaction::{ClientRequest, Owner, TxId};
use offhook_contract::HangupCause;
use offhook_wire_sip::{Message, Method, Name};
use std::net::SocketAddr;

/// Dialogs of one INVITE that are ended this way; more are left to time out.
const MAX_FORKS: usize = 8;

/// Acknowledges the 2xx and ends its dialog.
pub(crate) fn decline(core: &mut Core, now: Now, invite: TxId, response: &Message<'_>, source: SocketAddr) {
    if core.clients.forks(invite) >= MAX_FORKS {
        return;
    }
    let Some(request) = core.clients.request(invite) else { return };
    let (trunk, bytes) = (request.trunk, request.bytes.clone());
    let Ok(message) = Message::parse(&bytes) else { return };
    let Ok(mut dialog) = Dialog::caller(&message, response) else { return };
    acknowledge(core, invite, &message, &dialog, trunk, source);
    let Some(slot) = core.slot(trunk).cloned() else { return };
    let (path, branch) = (dialog.path(), core.branch());
    let number = dialog.next_number();
    let bye = core
        .request_builder(&Method::Bye, &path.uri, &slot.socket, &branch)
        .each(Name::Route, &path.routes)
        .header(Name::From, format!("{};tag={}", dialog.local, dialog.local_tag))
        .header(Name::To, format!("{};tag={}", dialog.remote, dialog.remote_tag))
        .header(Name::CallId, &dialog.call_id)
        .header(Name::CSeq, format!("{number} BYE"))
        .header(Name::Reason, reason_header(HangupCause::Cancelled))
        .to_bytes();
    let Ok(bytes) = bye else { return };
    let to = dialog.next_hop(&slot.trunk, source);
    let method = Method::Bye;
    let local = slot.socket.local;
    core.send(now, ClientRequest { owner: Owner::Nobody, trunk, method, branch, to, local, bytes });
}

/// Sends the ACK of a 2xx and remembers it for repeated ones. It carries the INVITE's credentials (RFC 3261 §22.1).
pub(super) fn acknowledge(
    core: &mut Core,
    invite: TxId,
    request: &Message<'_>,
    dialog: &Dialog,
    trunk: usize,
    source: SocketAddr,
) {
    let Some(slot) = core.slot(trunk).cloned() else { return };
    let (path, branch) = (dialog.path(), core.branch());
    let to = if dialog.remote_tag.is_empty() {
        dialog.remote.clone()
    } else {
        format!("{};tag={}", dialog.remote, dialog.remote_tag)
    };
    let ack = core
        .request_builder(&Method::Ack, &path.uri, &slot.socket, &branch)
        .each(Name::Route, &path.routes)
        .header(Name::From, format!("{};tag={}", dialog.local, dialog.local_tag))
        .header(Name::To, to)
        .header(Name::CallId, &dialog.call_id)
        .header(Name::CSeq, format!("{} ACK", request.cseq().number))
        .each(Name::Authorization, request.lines(Name::Authorization))
        .each(Name::ProxyAuthorization, request.lines(Name::ProxyAuthorization))
        .to_bytes();
    let Ok(ack) = ack else { return };
    let hop = dialog.next_hop(&slot.trunk, source);
    core.transmit(hop, slot.socket.local, ack.clone());
    core.clients.acknowledge(invite, &dialog.remote_tag, hop, ack);
}
