//! What happens inside a dialog: ACK, re-INVITE and UPDATE, INFO, BYE from either side.

use super::outbound::q850;
use super::{Leg, State};
use crate::api::{Ended, LegEvent, Now, Side};
use crate::cause::{cause_of_q850, reason_header};
use crate::core::{ALLOW, Core, LegTimer};
use crate::dialog::Dialog;
use crate::digest::Digest;
use crate::transaction::{ClientRequest, Owner, T1, T1_64, T2, TxId};
use offhook_contract::HangupCause;
use offhook_wire_sdp::telephony::{Agreed, AudioSession, Description, accept_answer, negotiate};
use offhook_wire_sip::{Message, Method, Name};
use std::net::SocketAddr;
use std::time::Duration;

/// An answered call.
pub(super) struct Established {
    pub dialog: Dialog,
    /// From where the other side last spoke.
    peer: SocketAddr,
    digest: Digest,
    pub pending_ok: Option<PendingOk>,
}

/// A 2xx of ours that waits for its ACK (RFC 3261 §13.3.1.4).
pub(super) struct PendingOk {
    tx: TxId,
    number: u32,
    bytes: Vec<u8>,
    pause: Duration,
    /// What we offered, if the INVITE made no offer: the ACK answers it.
    offered: Option<AudioSession>,
}

impl PendingOk {
    pub const fn new(tx: TxId, number: u32, bytes: Vec<u8>, offered: Option<AudioSession>) -> Self {
        Self { tx, number, bytes, pause: T1, offered }
    }
}

impl Established {
    pub const fn new(dialog: Dialog, peer: SocketAddr, digest: Digest) -> Self {
        Self { dialog, peer, digest, pending_ok: None }
    }
}

impl Leg {
    pub(super) fn await_ack(&self, core: &mut Core, now: Now) {
        core.after(now, self.timer(LegTimer::OkAgain), T1);
        core.after(now, self.timer(LegTimer::AckWait), T1_64);
    }

    /// The 2xx once more, with pauses that double up to T2. It goes through its transaction while that lives.
    pub(super) fn repeat_ok(&mut self, core: &mut Core, now: Now) {
        let handle = self.timer(LegTimer::OkAgain);
        let (State::Answered(established) | State::Active(established) | State::ByeLater(established, _)) =
            &mut self.state
        else {
            return;
        };
        let Some(pending) = &mut established.pending_ok else { return };
        pending.pause = (pending.pause * 2).min(T2);
        core.stats.retransmissions_out += 1;
        core.answer(now, pending.tx, 200, pending.bytes.clone());
        core.after(now, handle, pending.pause);
    }

    /// 64 · T1 without ACK: the dialog is ended with BYE.
    pub(super) fn on_missing_ack(&mut self, core: &mut Core, now: Now) {
        let cause = HangupCause::CarrierUnavailable;
        self.state = match self.take() {
            State::Answered(established) | State::Active(established) => {
                self.end(core, Ended { cause, by: Side::Them, sip_code: None, q850: None });
                self.bye(core, now, established, cause)
            }
            State::ByeLater(established, cause) => self.bye(core, now, established, cause),
            other => other,
        };
    }

    pub(super) fn on_ack(&mut self, core: &mut Core, now: Now, ack: &Message<'_>) {
        let (State::Answered(established) | State::Active(established) | State::ByeLater(established, _)) =
            &mut self.state
        else {
            return;
        };
        let Some(pending) = established.pending_ok.take_if(|pending| pending.number == ack.cseq().number) else {
            return;
        };
        core.timers.cancel(&self.timer(LegTimer::OkAgain));
        core.timers.cancel(&self.timer(LegTimer::AckWait));
        self.state = match self.take() {
            State::ByeLater(established, cause) => self.bye(core, now, established, cause),
            State::Answered(established) => State::Active(established),
            other => other,
        };
        if let (State::Active(_), Some(offered)) = (&self.state, pending.offered) {
            self.on_late_answer(core, now, &offered, ack);
        }
    }

    /// The ACK answers the offer that our 200 made.
    fn on_late_answer(&mut self, core: &mut Core, now: Now, offered: &AudioSession, ack: &Message<'_>) {
        let description = ack.sdp().and_then(|sdp| Description::parse_bytes(sdp).ok());
        match description.and_then(|description| accept_answer(offered, &description).ok()) {
            Some(agreed) => self.agree(core, agreed),
            None => {
                // Only live legs come here, and they take the order.
                let _ = self.hang_up(core, now, HangupCause::MediaIncompatible);
            }
        }
    }

    /// Tells what changed against what was agreed before.
    fn agree(&mut self, core: &mut Core, agreed: Agreed) {
        let Some(media) = &mut self.media else { return };
        let event = match media.agreed.replace(agreed.clone()) {
            None => LegEvent::Answered(agreed),
            Some(before) if before == agreed => return,
            Some(before) if !before.held_by_remote && agreed.held_by_remote => LegEvent::RemoteHeld(agreed),
            Some(before) if before.held_by_remote && !agreed.held_by_remote => LegEvent::RemoteResumed(agreed),
            Some(_) => LegEvent::MediaChanged(agreed),
        };
        core.emit(self.handle, event);
    }

    pub(super) fn on_dialog_request(
        &mut self,
        core: &mut Core,
        now: Now,
        tx: TxId,
        request: &Message<'_>,
        source: SocketAddr,
    ) {
        if let Err(code) = self.take_number(request) {
            return core.answer_plainly(now, tx, request, source, code, &[]);
        }
        let plain = |core: &mut Core, code| core.answer_plainly(now, tx, request, source, code, &[]);
        match request.method() {
            Method::Bye => self.on_bye(core, now, tx, request, source),
            Method::Invite | Method::Update => self.on_offer(core, now, tx, request, source),
            Method::Info => {
                let code = self.on_info(core, request);
                plain(core, code);
            }
            Method::Options => core.answer_plainly(
                now,
                tx,
                request,
                source,
                200,
                &[(Name::Allow, ALLOW), (Name::Accept, "application/sdp")],
            ),
            // Nothing of ours is sent reliably (RFC 3262), so there is nothing to acknowledge; harmless.
            Method::Prack => plain(core, 200),
            Method::Other(_) => plain(core, 501),
            _ => core.answer_plainly(now, tx, request, source, 405, &[(Name::Allow, ALLOW)]),
        }
    }

    fn take_number(&mut self, request: &Message<'_>) -> Result<(), u16> {
        let dialog = match &mut self.state {
            State::Offered(offered, _) => offered.dialog_mut(),
            State::Answered(established) | State::Active(established) => &mut established.dialog,
            State::ByeLater(..) | State::Releasing(_) => {
                // For us the call is over.
                return if *request.method() == Method::Bye { Ok(()) } else { Err(481) };
            }
            // The callee's side of the dialog is not known before its answer.
            _ => return Ok(()),
        };
        dialog.take_number(request).map_err(|error| error.response_code())
    }

    fn on_bye(&mut self, core: &mut Core, now: Now, tx: TxId, request: &Message<'_>, source: SocketAddr) {
        core.answer_plainly(now, tx, request, source, 200, &[]);
        let q850 = q850(request);
        match &self.state {
            State::Offered(..) => self.on_cancel(core, now, q850),
            State::Answered(_) | State::Active(_) => {
                let cause = q850.and_then(cause_of_q850).unwrap_or(HangupCause::Normal);
                // After an answer only a fault of the network is more than an ordinary end.
                let cause = match cause {
                    HangupCause::Congestion | HangupCause::CarrierUnavailable => HangupCause::CarrierUnavailable,
                    _ => HangupCause::Normal,
                };
                self.end(core, Ended { cause, by: Side::Them, sip_code: None, q850 });
                self.state = State::Gone;
            }
            State::ByeLater(..) => {
                core.stop_leg_timers(self.handle);
                self.state = State::Gone;
            }
            // Both sides hung up at once: our own BYE still waits for its answer.
            _ => {}
        }
    }

    /// re-INVITE and UPDATE: a new description, a refresh of the target, or nothing at all.
    fn on_offer(&mut self, core: &mut Core, now: Now, tx: TxId, request: &Message<'_>, source: SocketAddr) {
        let is_invite = *request.method() == Method::Invite;
        let (State::Active(established) | State::Answered(established)) = &mut self.state else {
            // RFC 3311 §5.2, RFC 3261 §14.2: our own offer is still open.
            let code = if is_invite || request.sdp().is_some() { 491 } else { 200 };
            return core.answer_plainly(now, tx, request, source, code, &[]);
        };
        if is_invite || request.sdp().is_some() {
            match &established.pending_ok {
                Some(pending) if pending.offered.is_some() => {
                    return core.answer_plainly(now, tx, request, source, 491, &[]);
                }
                // RFC 3261 §14.2: the last INVITE is not yet acknowledged.
                Some(_) => {
                    return core.answer_plainly(now, tx, request, source, 500, &[(Name::RetryAfter, "1")]);
                }
                None => {}
            }
        }
        if !request.body().is_empty() && request.sdp().is_none() {
            return core.answer_plainly(now, tx, request, source, 415, &[(Name::Accept, "application/sdp")]);
        }
        let media = self.media.as_mut();
        let (sdp, agreed, offered) = match (request.sdp(), media) {
            (None, Some(media)) if is_invite => (Some(media.local.offer(&media.ours)), None, Some(media.ours.clone())),
            (None, _) => (None, None, None),
            (Some(_), None) => return core.answer_plainly(now, tx, request, source, 488, &[]),
            (Some(sdp), Some(media)) => {
                let description = Description::parse_bytes(sdp);
                let negotiated = description.ok().and_then(|offer| {
                    let (answer, agreed) = negotiate(&offer, &media.ours).ok()?;
                    Some((media.local.answer(&offer, &answer), agreed))
                });
                let Some((sdp, agreed)) = negotiated else {
                    // RFC 3261 §14.2: the call goes on as it was.
                    return core.answer_plainly(now, tx, request, source, 488, &[]);
                };
                (Some(sdp), Some(agreed), None)
            }
        };
        established.dialog.refresh_target(request);
        established.peer = source;
        self.accept_offer(core, now, tx, request, source, sdp, offered);
        if let Some(agreed) = agreed {
            self.agree(core, agreed);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one exchange: the request, where it came from and what it gets")]
    fn accept_offer(
        &mut self,
        core: &mut Core,
        now: Now,
        tx: TxId,
        request: &Message<'_>,
        source: SocketAddr,
        sdp: Option<String>,
        offered: Option<AudioSession>,
    ) {
        let builder = core
            .response_builder(request, 200, source, &self.local_tag)
            .header(Name::Contact, self.contact(core))
            .header(Name::Allow, ALLOW);
        let bytes = match &sdp {
            Some(sdp) => builder.to_bytes_with("application/sdp", sdp.as_bytes()),
            None => builder.to_bytes(),
        };
        let Ok(bytes) = bytes else { return };
        core.answer(now, tx, 200, bytes.clone());
        if *request.method() == Method::Invite {
            if let State::Active(established) | State::Answered(established) = &mut self.state {
                established.pending_ok = Some(PendingOk::new(tx, request.cseq().number, bytes, offered));
            }
            self.await_ack(core, now);
        }
    }

    /// Keypad digits by INFO (`application/dtmf-relay`, or a bare `application/dtmf`).
    fn on_info(&self, core: &mut Core, request: &Message<'_>) -> u16 {
        if request.body().is_empty() {
            return 200;
        }
        let text = String::from_utf8_lossy(request.body());
        let field = |name: &str| {
            let lines = text.lines().filter_map(|line| line.split_once('='));
            let mut found =
                lines.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
            found.next().map(str::to_owned)
        };
        let signal = if request.has_content_type("application/dtmf-relay") {
            field("signal")
        } else if request.has_content_type("application/dtmf") {
            Some(text.trim().to_owned())
        } else {
            return 415;
        };
        let digit = match signal.as_deref() {
            Some("10") => Some('*'),
            Some("11") => Some('#'),
            Some(signal) if signal.len() == 1 => signal.chars().next().map(|digit| digit.to_ascii_uppercase()),
            _ => None,
        };
        let Some(digit) = digit.filter(|digit| "0123456789*#ABCD".contains(*digit)) else { return 400 };
        if self.is_live() {
            let duration_ms = field("duration").and_then(|text| text.parse().ok()).unwrap_or(160);
            core.emit(self.handle, LegEvent::Digit { digit, duration_ms });
        }
        200
    }

    /// Sends BYE; the leg stays until its answer.
    pub(super) fn bye(&self, core: &mut Core, now: Now, mut established: Established, cause: HangupCause) -> State {
        core.timers.cancel(&self.timer(LegTimer::OkAgain));
        core.timers.cancel(&self.timer(LegTimer::AckWait));
        match self.send_bye(core, now, &mut established, cause) {
            Some(()) => State::Releasing(established),
            None => State::Gone,
        }
    }

    fn send_bye(&self, core: &mut Core, now: Now, established: &mut Established, cause: HangupCause) -> Option<()> {
        let slot = core.slot(self.trunk).cloned()?;
        let Established { dialog, peer, digest, .. } = established;
        let (path, branch, number) = (dialog.path(), core.branch(), dialog.next_number());
        let credentials = slot.trunk.config().credentials.as_ref();
        // A carrier that challenged the INVITE is told beforehand, so that it need not challenge the BYE.
        let authorization = credentials
            .and_then(|who| digest.authorization(who, Method::Bye.as_str(), &path.uri, core.random.as_mut()));
        let mut builder = core
            .request_builder(&Method::Bye, &path.uri, &self.socket, &branch)
            .each(Name::Route, &path.routes)
            .header(Name::From, format!("{};tag={}", dialog.local, dialog.local_tag))
            .header(Name::To, tagged(&dialog.remote, &dialog.remote_tag))
            .header(Name::CallId, &dialog.call_id)
            .header(Name::CSeq, format!("{number} BYE"))
            .header(Name::Reason, reason_header(cause));
        if let Some((name, value)) = authorization {
            builder = builder.header(name, value);
        }
        let request = ClientRequest {
            owner: Owner::Leg(self.handle),
            trunk: self.trunk,
            method: Method::Bye,
            branch,
            to: dialog.next_hop(&slot.trunk, *peer),
            local: self.socket.local,
            bytes: builder.to_bytes().ok()?,
        };
        core.send(now, request);
        Some(())
    }

    /// The BYE was answered. A challenge is met only if the trunk challenged the INVITE too.
    pub(super) fn on_bye_response(
        &self,
        core: &mut Core,
        now: Now,
        mut established: Established,
        response: &Message<'_>,
    ) -> State {
        if *response.method() != Method::Bye {
            return State::Releasing(established);
        }
        if matches!(response.code(), Some(401 | 407)) && established.digest.is_known() {
            let credentials = core.slot(self.trunk).and_then(|slot| slot.trunk.config().credentials.clone());
            if established.digest.challenged(response, credentials.as_ref()).is_ok() {
                core.stats.challenges_answered += 1;
                return self.bye(core, now, established, HangupCause::Normal);
            }
            core.stats.challenges_not_answered += 1;
        }
        State::Gone
    }
}

/// An address with its tag; peers of RFC 2543 have none.
fn tagged(address: &str, tag: &str) -> String {
    if tag.is_empty() { address.to_owned() } else { format!("{address};tag={tag}") }
}
