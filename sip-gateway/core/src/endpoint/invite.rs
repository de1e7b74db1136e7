//! An INVITE outside any dialog: all checks before a leg exists (RFC 3261 §8.2).

use super::SipEndpoint;
use super::input::Request;
use crate::api::{Incoming, LegEvent, LegHandle, Now, Refusal};
use crate::call::{Invitation, Leg};
use crate::dialog::Dialog;
use crate::transaction::TxId;
use crate::trunk::Trunk;
use offhook_wire_sdp::telephony::{AudioSession, Description, negotiate};
use offhook_wire_sip::{AnyUri, Host, Message, Name};

/// Characters of a number or a display name that are passed on.
const MAX_NAME: usize = 64;

impl SipEndpoint {
    pub(super) fn on_invite(&mut self, now: Now, request: &Request<'_>, tx: TxId) {
        let Some(place) = self.trunk_of_call(request) else {
            // Only trunks that the configuration no longer has admit this source.
            self.core.servers.remove(tx);
            self.core.stats.unknown_source += 1;
            return self.core.refuse(now, request.from, Refusal::UnknownSource);
        };
        let message = request.message;
        if self.draining || self.legs.len() >= self.max_legs {
            self.core.stats.overload += 1;
            self.core.refuse(now, request.from, Refusal::Overload);
            let headers = [(Name::RetryAfter, "10")];
            return self.core.answer_plainly(now, tx, message, request.from, 503, &headers);
        }
        let offer = match self.check(request, place) {
            Ok(offer) => offer,
            Err(refused) => {
                let headers = refused.header.as_ref().map(|(name, value)| (*name, value.as_str()));
                return self.refuse(now, request, tx, refused.code, headers.as_slice());
            }
        };
        let tag = self.core.tag();
        let dialog = match Dialog::callee(message, &tag) {
            Ok(dialog) => dialog,
            Err(error) => return self.refuse(now, request, tx, error.response_code(), &[]),
        };
        self.core.answer_plainly(now, tx, message, request.from, 100, &[]);
        let handle = LegHandle(self.core.next_id());
        let Some(trunk) = self.core.slot(place).map(|slot| slot.trunk.clone()) else { return };
        let event = LegEvent::Incoming(incoming(message, &trunk, offer.is_some()));
        let invitation = Invitation { tx, message, bytes: request.bytes, source: request.from, offer, dialog };
        let Some(leg) = Leg::offered(&mut self.core, now, handle, place, invitation) else { return };
        self.core.servers.set_leg(tx, handle);
        self.insert(handle, leg);
        self.core.emit(handle, event);
    }

    /// The trunk that a new call belongs to, if several share the source: the one whose number is called, else the one
    /// whose account is (a registrar calls our Contact; of trunks with one account the number in To decides), else any.
    /// Of several that fit: the one whose proxy sent it, else the first.
    fn trunk_of_call(&self, request: &Request<'_>) -> Option<usize> {
        let admitting: Vec<(usize, &Trunk)> = self
            .core
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.active && slot.trunk.admits(request.from.ip()))
            .map(|(place, slot)| (place, slot.trunk.as_ref()))
            .collect();
        let called = request.message.request_uri().and_then(AnyUri::number);
        let called = called.as_deref().unwrap_or_default();
        let wanted = request.message.to().uri.number();
        let wanted = wanted.as_deref().unwrap_or_default();
        let account = |trunk: &Trunk| trunk.user() == Some(called);
        let fits: [&dyn Fn(&Trunk) -> bool; 4] = [
            &|trunk| trunk.read_number(called).is_some(),
            &|trunk| account(trunk) && trunk.read_number(wanted).is_some(),
            &|trunk| account(trunk),
            &|_| true,
        ];
        let place = |fit: &dyn Fn(&Trunk) -> bool| {
            let fitting = || admitting.iter().filter(|(_, trunk)| fit(trunk));
            let sent_it = fitting().find(|(_, trunk)| trunk.config().proxy == request.from);
            sent_it.or_else(|| fitting().next()).map(|(place, _)| *place)
        };
        fits.into_iter().find_map(place)
    }

    /// Everything that refuses an INVITE before it rings anywhere; gives its offer.
    fn check(&self, request: &Request<'_>, place: usize) -> Result<Option<Description>, Refused> {
        let message = request.message;
        if message.max_forwards() == Some(0) {
            // RFC 3261 §16.3: a gateway stands where a proxy would.
            return Err(Refused::plain(483));
        }
        if self.came_from_us(message) {
            return Err(Refused::plain(482));
        }
        if !matches!(message.request_uri(), Some(AnyUri::Sip(_) | AnyUri::Tel(_))) {
            return Err(Refused::plain(416));
        }
        if message.values(Name::ContentEncoding).any(|coding| !coding.eq_ignore_ascii_case("identity")) {
            return Err(Refused::with(415, Name::AcceptEncoding, "identity".into()));
        }
        if message.body().is_empty() {
            return Ok(None);
        }
        let Some(sdp) = message.sdp() else {
            return Err(Refused::with(415, Name::Accept, "application/sdp".into()));
        };
        let warn = |code: u16, text: String| {
            // RFC 3261 §20.43: says to the carrier's engineer what did not fit.
            let text = text.replace(['"', '\\'], "'");
            Refused::with(488, Name::Warning, format!("{code} offhook \"{text}\""))
        };
        let offer = Description::parse_bytes(sdp).map_err(|error| warn(399, error.to_string()))?;
        let Some(slot) = self.core.slot(place) else { return Err(Refused::plain(500)) };
        // A rehearsal: whether a codec and a profile exist that both sides know.
        let ours = AudioSession::new(slot.socket.advertised.ip(), 9, &slot.trunk.config().codecs);
        negotiate(&offer, &ours).map_err(|error| warn(error.warning_code(), error.to_string()))?;
        Ok(Some(offer))
    }

    /// A call of ours that came back (RFC 3261 §16.3): one of its hops is a socket of ours.
    fn came_from_us(&self, message: &Message<'_>) -> bool {
        message.vias().iter().any(|via| {
            let Host::Ip(ip) = via.host else { return false };
            let port = via.port.unwrap_or(5060);
            self.sockets.iter().any(|socket| (socket.advertised.ip(), socket.advertised.port()) == (ip, port))
        })
    }
}

fn incoming(message: &Message<'_>, trunk: &Trunk, has_offer: bool) -> Incoming {
    let dialled = message.request_uri().and_then(AnyUri::number);
    // A registrar calls our Contact, which is the account; the number is in To then.
    let number = match dialled {
        Some(number) if Some(number.as_ref()) != trunk.user() => Some(number),
        _ => message.to().uri.number(),
    };
    let name = message.from().display().map(|name| clean(&name));
    Incoming {
        trunk: trunk.name().clone(),
        number: clean(number.as_deref().unwrap_or_default()),
        caller: caller_of(message),
        caller_name: name.filter(|name| !name.is_empty()),
        sip_call_id: message.call_id().to_owned(),
        has_offer,
    }
}

/// A refusal with one header that explains it.
struct Refused {
    code: u16,
    header: Option<(Name, String)>,
}

impl Refused {
    const fn plain(code: u16) -> Self {
        Self { code, header: None }
    }

    const fn with(code: u16, name: Name, value: String) -> Self {
        Self { code, header: Some((name, value)) }
    }
}

/// P-Asserted-Identity of a trunk is believed, then From; `Privacy: id` and `anonymous` withhold the number.
fn caller_of(message: &Message<'_>) -> Option<String> {
    let private =
        message.lines(Name::Privacy).any(|line| line.split(';').any(|word| word.trim().eq_ignore_ascii_case("id")));
    if private {
        return None;
    }
    let asserted = message.addresses(Name::PAssertedIdentity).find_map(|address| address.uri.number());
    let number = asserted.or_else(|| message.from().uri.number())?;
    let withheld =
        ["anonymous", "unavailable", "restricted", "unknown"].iter().any(|word| number.eq_ignore_ascii_case(word));
    let number = clean(&number);
    (!withheld && !number.is_empty()).then_some(number)
}

/// Short and without control characters.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect()
}
