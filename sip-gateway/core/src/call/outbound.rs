//! Legs that we open: INVITE, its provisional responses, its challenge, its answer or refusal, CANCEL.

use super::established::Established;
use super::{Leg, Media, Progress, State, decline, fork};
use crate::api::{CommandError, Dial, Ended, LegEvent, LegHandle, Now, Side};
use crate::cause::{cause_of, reason_header};
use crate::core::{ALLOW, Core, LegTimer};
use crate::dialog::Dialog;
use crate::digest::Digest;
use crate::transaction::{ClientRequest, Owner, T1_64, TxId};
use crate::trunk::{AssertedIdentity, is_dialable};
use offhook_contract::HangupCause;
use offhook_wire_sdp::telephony::{Agreed, Description, LocalDescription, accept_answer};
use offhook_wire_sip::{Message, Method, Name};
use std::net::SocketAddr;
use std::time::Duration;

/// An INVITE under way, with all that is needed to send it again with credentials.
pub(super) struct Attempt {
    tx: TxId,
    draft: Draft,
    digest: Digest,
    max_duration: Option<Duration>,
}

struct Draft {
    uri: String,
    from: String,
    asserted: Option<(Name, String)>,
    number: u32,
    sdp: String,
    to: SocketAddr,
}

impl Attempt {
    pub fn is(&self, tx: TxId) -> bool {
        self.tx == tx
    }

    pub const fn tx(&self) -> TxId {
        self.tx
    }
}

impl Leg {
    /// Opens a leg to a number.
    pub fn dial(core: &mut Core, now: Now, handle: LegHandle, trunk: usize, dial: Dial) -> Result<Self, CommandError> {
        let slot = core.slot(trunk).cloned().ok_or(CommandError::UnknownTrunk(dial.trunk))?;
        if !is_dialable(&dial.number) {
            return Err(CommandError::Number(dial.number));
        }
        let caller = dial.caller.unwrap_or_else(|| slot.trunk.default_caller().to_owned());
        if !is_dialable(&caller) && Some(caller.as_str()) != slot.trunk.user() {
            return Err(CommandError::Number(caller));
        }
        let mut local = LocalDescription::new(core.session_id());
        let name = match slot.trunk.config().asserted {
            AssertedIdentity::None => None,
            AssertedIdentity::Asserted => Some(Name::PAssertedIdentity),
            AssertedIdentity::Preferred => Some(Name::PPreferredIdentity),
        };
        let draft = Draft {
            uri: slot.trunk.uri_of(&dial.number),
            from: slot.trunk.header_from(&caller),
            asserted: name.map(|name| (name, format!("<{}>", slot.trunk.uri_of(&caller)))),
            number: 1,
            sdp: local.offer(&dial.media),
            to: slot.trunk.config().proxy,
        };
        let mut leg = Self {
            handle,
            trunk,
            socket: slot.socket,
            call_id: core.call_id(),
            local_tag: core.tag(),
            media: Some(Media { ours: dial.media, local, agreed: None }),
            state: State::Gone,
        };
        let mut digest = Digest::default();
        let tx = leg.send_invite(core, now, &draft, &mut digest)?;
        core.after(now, leg.timer(LegTimer::NoAnswer), dial.ring_timeout);
        core.after(now, leg.timer(LegTimer::Silence), core.silence_limit.min(T1_64));
        leg.state = State::Inviting(Attempt { tx, draft, digest, max_duration: dial.max_duration });
        Ok(leg)
    }

    fn send_invite(&self, core: &mut Core, now: Now, draft: &Draft, digest: &mut Digest) -> Result<TxId, CommandError> {
        let slot = core.slot(self.trunk).cloned().ok_or(CommandError::UnknownLeg)?;
        let branch = core.branch();
        let credentials = slot.trunk.config().credentials.as_ref();
        let authorization = credentials
            .and_then(|who| digest.authorization(who, Method::Invite.as_str(), &draft.uri, core.random.as_mut()));
        let mut builder = core
            .request_builder(&Method::Invite, &draft.uri, &self.socket, &branch)
            .header(Name::From, format!("{};tag={}", draft.from, self.local_tag))
            .header(Name::To, format!("<{}>", draft.uri))
            .header(Name::CallId, &self.call_id)
            .header(Name::CSeq, format!("{} INVITE", draft.number))
            .header(Name::Contact, self.contact(core))
            .header(Name::Allow, ALLOW);
        for (name, value) in draft.asserted.iter().chain(&authorization) {
            builder = builder.header(*name, value);
        }
        let bytes = builder.to_bytes_with("application/sdp", draft.sdp.as_bytes())?;
        let request = ClientRequest {
            owner: Owner::Leg(self.handle),
            trunk: self.trunk,
            method: Method::Invite,
            branch,
            to: draft.to,
            local: self.socket.local,
            bytes,
        };
        Ok(core.send(now, request))
    }

    pub(super) fn on_invite_response(
        &mut self,
        core: &mut Core,
        now: Now,
        attempt: Attempt,
        progress: Progress,
        response: &Message<'_>,
        source: SocketAddr,
    ) -> State {
        core.timers.cancel(&self.timer(LegTimer::Silence));
        let code = response.code().unwrap_or_default();
        let doubted = attempt.digest.is_pending() && !core.slot(self.trunk).is_some_and(|slot| slot.password_proved);
        if doubted && !matches!(code, 100 | 401 | 403 | 407) {
            core.note_proved(self.trunk);
        }
        match code {
            100 => State::Proceeding(attempt, progress),
            101..=199 => {
                let progress = self.on_progress(core, progress, response);
                State::Proceeding(attempt, progress)
            }
            200..=299 => self.on_answer(core, now, attempt, response, source),
            401 | 407 => self.on_challenge(core, now, attempt, progress, response),
            // Many carriers refuse a wrong password so. Once it was right, 403 is about the call.
            403 if doubted => {
                self.refused(core, HangupCause::CarrierAuthFailed, response);
                State::Gone
            }
            code => {
                self.refused(core, cause_of(code, q850(response)), response);
                State::Gone
            }
        }
    }

    /// 180 and 183: ringing, or something to hear. A description we cannot use is ignored until the answer.
    fn on_progress(&mut self, core: &mut Core, progress: Progress, response: &Message<'_>) -> Progress {
        if let Some(agreed) = self.read_answer(response)
            && let Some(media) = &mut self.media
        {
            if media.agreed.as_ref() != Some(&agreed) {
                media.agreed = Some(agreed.clone());
                core.emit(self.handle, LegEvent::EarlyMedia(agreed));
            }
            return Progress::Early;
        }
        if response.code() == Some(180) && progress == Progress::Trying {
            core.emit(self.handle, LegEvent::Ringing);
            return Progress::Ringing;
        }
        progress
    }

    fn read_answer(&self, response: &Message<'_>) -> Option<Agreed> {
        let media = self.media.as_ref()?;
        let description = Description::parse_bytes(response.sdp()?).ok()?;
        accept_answer(&media.ours, &description).ok()
    }

    fn on_answer(
        &mut self,
        core: &mut Core,
        now: Now,
        mut attempt: Attempt,
        response: &Message<'_>,
        source: SocketAddr,
    ) -> State {
        core.timers.cancel(&self.timer(LegTimer::NoAnswer));
        // Some send the description only with 183; then it is the answer (RFC 3261 §13.2.1 would have it repeated).
        let early = self.media.as_ref().and_then(|media| media.agreed.clone()).filter(|_| response.body().is_empty());
        let agreed = self.read_answer(response).or(early);
        let Some(request) = core.clients.request(attempt.tx).map(|request| request.bytes.clone()) else {
            return State::Gone;
        };
        let dialog = Message::parse(&request).ok().and_then(|invite| {
            let dialog = Dialog::caller(&invite, response).ok()?;
            fork::acknowledge(core, attempt.tx, &invite, &dialog, self.trunk, source);
            Some(dialog)
        });
        let Some(dialog) = dialog else {
            self.refused(core, HangupCause::CarrierUnavailable, response);
            return State::Gone;
        };
        attempt.digest.accepted();
        let established = Established::new(dialog, source, attempt.digest);
        let Some((agreed, media)) = agreed.zip(self.media.as_mut()) else {
            let cause = HangupCause::MediaIncompatible;
            self.end(core, Ended { cause, by: Side::Us, sip_code: None, q850: None });
            return self.bye(core, now, established, cause);
        };
        media.agreed = Some(agreed.clone());
        if let Some(limit) = attempt.max_duration {
            core.after(now, self.timer(LegTimer::MaxDuration), limit);
        }
        core.emit(self.handle, LegEvent::Answered(agreed));
        State::Active(established)
    }

    /// 401 and 407: the INVITE once more with credentials, as a new transaction of the same call (RFC 3261 §22.2).
    fn on_challenge(
        &self,
        core: &mut Core,
        now: Now,
        mut attempt: Attempt,
        progress: Progress,
        response: &Message<'_>,
    ) -> State {
        let credentials = core.slot(self.trunk).and_then(|slot| slot.trunk.config().credentials.clone());
        if attempt.digest.challenged(response, credentials.as_ref()).is_err() {
            core.stats.challenges_not_answered += 1;
            self.refused(core, HangupCause::CarrierAuthFailed, response);
            return State::Gone;
        }
        core.stats.challenges_answered += 1;
        attempt.draft.number += 1;
        match self.send_invite(core, now, &attempt.draft, &mut attempt.digest) {
            Ok(tx) => {
                core.after(now, self.timer(LegTimer::Silence), core.silence_limit.min(T1_64));
                attempt.tx = tx;
                // The new INVITE has had no response yet, so a CANCEL would have to wait for one.
                if progress == Progress::Trying {
                    State::Inviting(attempt)
                } else {
                    State::Proceeding(attempt, progress)
                }
            }
            Err(_) => {
                self.refused(core, HangupCause::InternalError, response);
                State::Gone
            }
        }
    }

    fn refused(&self, core: &mut Core, cause: HangupCause, response: &Message<'_>) {
        let sip_code = response.code();
        self.end(core, Ended { cause, by: Side::Them, sip_code, q850: q850(response) });
    }

    pub(super) fn cancel(&self, core: &mut Core, now: Now, attempt: Attempt, cause: HangupCause) -> State {
        core.send_cancel(now, attempt.tx, &reason_header(cause));
        core.after(now, self.timer(LegTimer::GiveUp), T1_64);
        State::Cancelling(attempt)
    }

    /// The call was given up, but its answer came first.
    pub(super) fn decline_late_answer(
        &self,
        core: &mut Core,
        now: Now,
        tx: TxId,
        response: &Message<'_>,
        source: SocketAddr,
    ) -> State {
        core.stop_leg_timers(self.handle);
        decline(core, now, tx, response, source);
        State::Gone
    }
}

/// The telephone network's cause in a Reason header.
pub(super) fn q850(message: &Message<'_>) -> Option<u8> {
    message.reasons().find_map(|reason| reason.q850())
}
