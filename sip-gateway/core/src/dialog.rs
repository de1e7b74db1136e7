//! Dialogs (RFC 3261 §12): who talks to whom, in which order, over which route.

use crate::trunk::Trunk;
use offhook_wire_sip::{AnyUri, Message, NameAddr, SipUri, quote};
use std::net::SocketAddr;

/// Routes kept of a Record-Route; more than a handful is a loop.
const MAX_ROUTES: usize = 16;

/// One dialog as one side sees it. `local` and `remote` are addresses without tags.
#[derive(Debug, Clone)]
pub(crate) struct Dialog {
    pub call_id: String,
    pub local: String,
    pub local_tag: String,
    pub remote: String,
    pub remote_tag: String,
    local_number: u32,
    remote_number: Option<u32>,
    remote_target: String,
    route_set: Vec<String>,
}

/// Why a message makes no dialog, or a request does not fit into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DialogError {
    #[error("no Contact to send further requests to")]
    NoContact,
    #[error("more than {MAX_ROUTES} routes")]
    TooManyRoutes,
    #[error("a request older than one already seen")]
    OutOfOrder,
}

impl DialogError {
    pub const fn response_code(self) -> u16 {
        match self {
            Self::NoContact => 400,
            Self::TooManyRoutes => 482,
            // RFC 3261 §12.2.2.
            Self::OutOfOrder => 500,
        }
    }
}

/// Where a request of a dialog goes: its URI and its Route headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub uri: String,
    pub routes: Vec<String>,
}

impl Dialog {
    /// The caller's view, from its INVITE and a response with a To tag (§12.1.2): routes in reverse.
    pub fn caller(invite: &Message<'_>, response: &Message<'_>) -> Result<Self, DialogError> {
        let target = match contact_of(response) {
            Some(target) => target,
            // A 2xx without Contact is against §12.1.1; the request's own target still reaches the callee.
            None => invite.request_uri().ok_or(DialogError::NoContact)?.as_str().to_owned(),
        };
        let mut route_set = routes_of(response)?;
        route_set.reverse();
        Ok(Self {
            call_id: invite.call_id().to_owned(),
            local: address(invite.from()),
            local_tag: invite.from().tag().unwrap_or_default().to_owned(),
            remote: address(invite.to()),
            remote_tag: response.to().tag().unwrap_or_default().to_owned(),
            local_number: invite.cseq().number,
            remote_number: None,
            remote_target: target,
            route_set,
        })
    }

    /// The callee's view, from the INVITE and the tag given to it (§12.1.1).
    pub fn callee(invite: &Message<'_>, local_tag: &str) -> Result<Self, DialogError> {
        Ok(Self {
            call_id: invite.call_id().to_owned(),
            local: address(invite.to()),
            local_tag: local_tag.to_owned(),
            remote: address(invite.from()),
            // Missing for peers of RFC 2543 (§12.1.1).
            remote_tag: invite.from().tag().unwrap_or_default().to_owned(),
            local_number: 0,
            remote_number: Some(invite.cseq().number),
            remote_target: contact_of(invite).ok_or(DialogError::NoContact)?,
            route_set: routes_of(invite)?,
        })
    }

    /// Whether a request is from the other side of this dialog.
    pub fn is_partner(&self, request: &Message<'_>) -> bool {
        request.from().tag().unwrap_or_default() == self.remote_tag
    }

    /// Takes a request's number (§12.2.2). ACK has the number of its INVITE and is not asked.
    pub fn take_number(&mut self, request: &Message<'_>) -> Result<(), DialogError> {
        let number = request.cseq().number;
        if self.remote_number.is_some_and(|seen| number <= seen) {
            return Err(DialogError::OutOfOrder);
        }
        self.remote_number = Some(number);
        Ok(())
    }

    /// A re-INVITE or UPDATE moves where we send to (§12.2.2).
    pub fn refresh_target(&mut self, request: &Message<'_>) {
        if let Some(target) = contact_of(request) {
            self.remote_target = target;
        }
    }

    /// The number of our next request.
    pub const fn next_number(&mut self) -> u32 {
        self.local_number = self.local_number.wrapping_add(1) & 0x7fff_ffff;
        self.local_number
    }

    /// §12.2.1.1: a loose first router keeps the target in the URI, a strict one wants itself there.
    pub fn path(&self) -> Path {
        let Some((first, rest)) = self.route_set.split_first() else {
            return Path { uri: self.remote_target.clone(), routes: Vec::new() };
        };
        let first_uri = NameAddr::from_text(first);
        let loose = first_uri.and_then(|route| route.uri.sip().map(SipUri::is_loose_router)).unwrap_or(true);
        if loose {
            return Path { uri: self.remote_target.clone(), routes: self.route_set.clone() };
        }
        let uri = first_uri.map_or_else(|| self.remote_target.clone(), |route| without_headers(&route.uri));
        let mut routes = rest.to_vec();
        routes.push(format!("<{}>", self.remote_target));
        Path { uri, routes }
    }

    /// The address of the next hop, if it is one of the trunk's; names and foreign addresses lead back to `fallback`, from
    /// where the trunk last spoke. So nothing a peer writes into Contact or Record-Route makes us send elsewhere.
    pub fn next_hop(&self, trunk: &Trunk, fallback: SocketAddr) -> SocketAddr {
        let hop = match self.route_set.first() {
            Some(route) => NameAddr::from_text(route).and_then(|route| socket_of(&route.uri)),
            None => AnyUri::parse(&self.remote_target).ok().and_then(|uri| socket_of(&uri)),
        };
        hop.filter(|hop| trunk.admits(hop.ip()) && hop.is_ipv4() == fallback.is_ipv4()).unwrap_or(fallback)
    }
}

fn socket_of(uri: &AnyUri<'_>) -> Option<SocketAddr> {
    let uri = uri.sip()?;
    Some(SocketAddr::new(uri.host.ip()?, uri.port.unwrap_or(5060)))
}

/// `"name" <uri>` without parameters.
fn address(address: &NameAddr<'_>) -> String {
    match address.display() {
        Some(name) => format!("{} <{}>", quote(&name), address.uri.as_str()),
        None => format!("<{}>", address.uri.as_str()),
    }
}

fn contact_of(message: &Message<'_>) -> Option<String> {
    message.contacts().first().map(|contact| without_headers(&contact.uri))
}

/// A request URI carries no header part (RFC 3261 §19.1.1).
fn without_headers(uri: &AnyUri<'_>) -> String {
    let text = uri.as_str();
    match uri.sip().and_then(SipUri::headers) {
        Some(headers) => text.get(..text.len() - headers.len() - 1).unwrap_or(text).to_owned(),
        None => text.to_owned(),
    }
}

fn routes_of(message: &Message<'_>) -> Result<Vec<String>, DialogError> {
    if message.record_routes().len() > MAX_ROUTES {
        return Err(DialogError::TooManyRoutes);
    }
    // Parameters behind the brackets belong to the record, not to the route.
    Ok(message.record_routes().iter().map(|route| format!("<{}>", route.uri.as_str())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(start: &str, extra: &str) -> Vec<u8> {
        format!(
            "{start}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: \"A\" <sip:a@x>;tag=a1\r\nTo: <sip:b@y>;tag=b1\r\n\
             Call-ID: c1\r\nCSeq: 7 INVITE\r\n{extra}\r\n"
        )
        .into_bytes()
    }

    const INVITE: &str = "INVITE sip:b@y SIP/2.0";
    const OK: &str = "SIP/2.0 200 OK";
    const CONTACT: &str = "Contact: <sip:b@192.0.2.9:5070?h=v>\r\n";

    fn caller(extra: &str) -> Dialog {
        let invite = message(INVITE, "");
        let ok = message(OK, extra);
        Dialog::caller(&Message::parse(&invite).unwrap(), &Message::parse(&ok).unwrap()).unwrap()
    }

    #[test]
    fn the_caller_reverses_the_recorded_routes_and_the_callee_keeps_them() {
        let routes = "Record-Route: <sip:p2;lr>;x=1, <sip:p1;lr>\r\n";
        let dialog = caller(&format!("{CONTACT}{routes}"));
        let path = dialog.path();
        assert_eq!(path.uri, "sip:b@192.0.2.9:5070");
        assert_eq!(path.routes, ["<sip:p1;lr>", "<sip:p2;lr>"]);
        let invite = message(INVITE, &format!("{CONTACT}{routes}"));
        let callee = Dialog::callee(&Message::parse(&invite).unwrap(), "new").unwrap();
        assert_eq!(callee.path().routes, ["<sip:p2;lr>", "<sip:p1;lr>"]);
        assert_eq!((callee.local.as_str(), callee.remote.as_str()), ("<sip:b@y>", "\"A\" <sip:a@x>"));
        assert_eq!((callee.local_tag.as_str(), callee.remote_tag.as_str()), ("new", "a1"));
    }

    #[test]
    fn a_strict_router_gets_itself_as_the_request_uri() {
        let path = caller(&format!("{CONTACT}Record-Route: <sip:p2;lr>, <sip:strict>\r\n")).path();
        assert_eq!(path.uri, "sip:strict");
        assert_eq!(path.routes, ["<sip:p2;lr>", "<sip:b@192.0.2.9:5070>"]);
    }

    #[test]
    fn numbers_only_grow_and_old_requests_are_refused() {
        let mut dialog = caller(CONTACT);
        assert_eq!(dialog.next_number(), 8);
        let invite = message(INVITE, CONTACT);
        let again = Message::parse(&invite).unwrap();
        assert_eq!(dialog.take_number(&again), Ok(()), "the other side counts for itself");
        assert_eq!(dialog.take_number(&again), Err(DialogError::OutOfOrder));
    }

    #[test]
    fn a_message_without_contact_or_with_too_many_routes_makes_no_dialog() {
        let invite = message(INVITE, "");
        assert_eq!(Dialog::callee(&Message::parse(&invite).unwrap(), "t").unwrap_err(), DialogError::NoContact);
        let invite = message(INVITE, &format!("{CONTACT}Record-Route: <sip:p>{}\r\n", ",<sip:p>".repeat(20)));
        assert_eq!(Dialog::callee(&Message::parse(&invite).unwrap(), "t").unwrap_err(), DialogError::TooManyRoutes);
    }
}
