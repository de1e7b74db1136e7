//! Legs that a trunk opens: INVITE received, 180, 183, 200 or a refusal.

use super::established::{Established, PendingOk};
use super::{Leg, Media, Progress, State};
use crate::api::{CommandError, Ended, LegEvent, LegHandle, Now, Side};
use crate::cause::{reason_header, refusal_code};
use crate::core::{ALLOW, Core, LegTimer};
use crate::dialog::Dialog;
use crate::digest::Digest;
use crate::transaction::TxId;
use offhook_contract::HangupCause;
use offhook_wire_sdp::telephony::{Agreed, AudioSession, Description, LocalDescription, negotiate};
use offhook_wire_sip::{Message, Name, ResponseBuilder};
use std::net::SocketAddr;
use std::time::Duration;

/// An unanswered INVITE.
pub(super) struct Offered {
    tx: TxId,
    /// As it came: responses echo its headers.
    invite: Vec<u8>,
    source: SocketAddr,
    offer: Option<Description>,
    dialog: Dialog,
}

impl Offered {
    pub const fn dialog(&self) -> &Dialog {
        &self.dialog
    }

    pub const fn dialog_mut(&mut self) -> &mut Dialog {
        &mut self.dialog
    }

    /// A response with our tag, Contact and Allow.
    fn response(&self, leg: &Leg, core: &Core, code: u16) -> Option<ResponseBuilder> {
        let invite = Message::parse(&self.invite).ok()?;
        let builder = core.response_builder(&invite, code, self.source, &leg.local_tag);
        Some(if code < 300 {
            builder.header(Name::Contact, leg.contact(core)).header(Name::Allow, ALLOW)
        } else {
            builder
        })
    }

    /// Sends a provisional or final response, with a description if given. `None` if it cannot be written.
    fn respond(&self, leg: &Leg, core: &mut Core, now: Now, code: u16, sdp: Option<&str>) -> Option<Vec<u8>> {
        let builder = self.response(leg, core, code)?;
        let bytes = match sdp {
            Some(sdp) => builder.to_bytes_with("application/sdp", sdp.as_bytes()),
            None => builder.to_bytes(),
        };
        let bytes = bytes.ok()?;
        core.answer(now, self.tx, code, bytes.clone());
        Some(bytes)
    }

    pub fn refuse(&self, leg: &Leg, core: &mut Core, now: Now, code: u16, reasons: &[String]) {
        let Some(builder) = self.response(leg, core, code) else { return };
        let builder = reasons.iter().fold(builder, |builder, reason| builder.header(Name::Reason, reason));
        // RFC 3261 §21.5.4: tells a balancing carrier when to come back.
        let builder = if code == 503 { builder.header(Name::RetryAfter, "10") } else { builder };
        if let Ok(bytes) = builder.to_bytes() {
            core.answer(now, self.tx, code, bytes);
        }
    }
}

/// An INVITE that passed all checks.
pub(crate) struct Invitation<'a> {
    pub tx: TxId,
    pub message: &'a Message<'a>,
    pub bytes: &'a [u8],
    pub source: SocketAddr,
    pub offer: Option<Description>,
    pub dialog: Dialog,
}

impl Leg {
    /// Opens a leg for an INVITE.
    pub fn offered(
        core: &mut Core,
        now: Now,
        handle: LegHandle,
        trunk: usize,
        invitation: Invitation<'_>,
    ) -> Option<Self> {
        let socket = core.slot(trunk)?.socket;
        let Invitation { tx, message, bytes, source, offer, dialog } = invitation;
        let leg = Self {
            handle,
            trunk,
            socket,
            call_id: dialog.call_id.clone(),
            local_tag: dialog.local_tag.clone(),
            media: None,
            state: State::Offered(Offered { tx, invite: bytes.to_vec(), source, offer, dialog }, Progress::Trying),
        };
        // RFC 3261 §13.3.1: the caller's own limit counts too.
        let wanted = message.expires().map_or(core.max_ringing, |s| Duration::from_secs(u64::from(s)));
        core.after(now, leg.timer(LegTimer::NoAnswer), wanted.min(core.max_ringing));
        Some(leg)
    }

    pub fn ring(&mut self, core: &mut Core, now: Now) -> Result<(), CommandError> {
        let State::Offered(offered, progress) = self.take_offered()? else { return Err(CommandError::NotRinging) };
        if progress == Progress::Trying {
            offered.respond(self, core, now, 180, None);
        }
        self.state = State::Offered(offered, progress.max(Progress::Ringing));
        Ok(())
    }

    pub fn early(&mut self, core: &mut Core, now: Now, media: AudioSession) -> Result<(), CommandError> {
        let State::Offered(offered, progress) = self.take_offered()? else { return Err(CommandError::NotRinging) };
        if offered.offer.is_none() {
            self.state = State::Offered(offered, progress);
            return Err(CommandError::NoOffer);
        }
        let (offered, sdp) = self.negotiate_or_refuse(core, now, offered, media)?;
        offered.respond(self, core, now, 183, Some(&sdp));
        if let Some(agreed) = self.media.as_ref().and_then(|media| media.agreed.clone()) {
            core.emit(self.handle, LegEvent::EarlyMedia(agreed));
        }
        self.state = State::Offered(offered, Progress::Early);
        Ok(())
    }

    pub fn answer(
        &mut self,
        core: &mut Core,
        now: Now,
        media: AudioSession,
        max_duration: Option<Duration>,
    ) -> Result<(), CommandError> {
        let State::Offered(offered, _) = self.take_offered()? else { return Err(CommandError::NotRinging) };
        let late_offer = offered.offer.is_none().then(|| media.clone());
        let (offered, sdp) = self.negotiate_or_refuse(core, now, offered, media)?;
        let Some(bytes) = offered.respond(self, core, now, 200, Some(&sdp)) else {
            let cause = HangupCause::InternalError;
            self.end(core, Ended { cause, by: Side::Us, sip_code: None, q850: None });
            return Err(CommandError::UnknownLeg);
        };
        core.timers.cancel(&self.timer(LegTimer::NoAnswer));
        if let Some(limit) = max_duration {
            core.after(now, self.timer(LegTimer::MaxDuration), limit);
        }
        if let Some(agreed) = self.media.as_ref().and_then(|media| media.agreed.clone()) {
            core.emit(self.handle, LegEvent::Answered(agreed));
        }
        let number = Message::parse(&offered.invite).map_or(0, |invite| invite.cseq().number);
        let mut established = Established::new(offered.dialog, offered.source, Digest::default());
        established.pending_ok = Some(PendingOk::new(offered.tx, number, bytes, late_offer));
        self.await_ack(core, now);
        self.state = State::Answered(established);
        Ok(())
    }

    /// Our description for the caller: an answer to its offer, or an offer of ours if it made none. When they do not meet, the
    /// caller gets 488 and the leg ends.
    fn negotiate_or_refuse(
        &mut self,
        core: &mut Core,
        now: Now,
        offered: Offered,
        ours: AudioSession,
    ) -> Result<(Offered, String), CommandError> {
        let mut local = match self.media.take() {
            Some(media) => media.local,
            None => LocalDescription::new(core.session_id()),
        };
        let (sdp, agreed): (String, Option<Agreed>) = match &offered.offer {
            None => (local.offer(&ours), None),
            Some(offer) => match negotiate(offer, &ours) {
                Ok((answer, agreed)) => (local.answer(offer, &answer), Some(agreed)),
                Err(error) => {
                    let cause = HangupCause::MediaIncompatible;
                    offered.refuse(self, core, now, error.response_code(), &[reason_header(cause)]);
                    self.end(core, Ended { cause, by: Side::Us, sip_code: None, q850: None });
                    return Err(error.into());
                }
            },
        };
        self.media = Some(Media { ours, local, agreed });
        Ok((offered, sdp))
    }

    pub fn reject(&mut self, core: &mut Core, now: Now, cause: HangupCause) -> Result<(), CommandError> {
        let State::Offered(offered, _) = self.take_offered()? else { return Err(CommandError::NotRinging) };
        offered.refuse(self, core, now, refusal_code(cause), &[reason_header(cause)]);
        self.end(core, Ended { cause, by: Side::Us, sip_code: Some(refusal_code(cause)), q850: None });
        Ok(())
    }

    /// The caller gave up: CANCEL, or a BYE before the answer (RFC 3261 §15).
    pub fn on_cancel(&mut self, core: &mut Core, now: Now, cause: Option<u8>) {
        if !matches!(self.state, State::Offered(..)) {
            return;
        }
        if let State::Offered(offered, _) = self.take() {
            offered.refuse(self, core, now, 487, &[]);
            self.end(core, Ended { cause: HangupCause::Cancelled, by: Side::Them, sip_code: None, q850: cause });
        }
    }

    /// Takes the state out if it is `Offered`; else leaves it.
    fn take_offered(&mut self) -> Result<State, CommandError> {
        match &self.state {
            State::Offered(..) => Ok(self.take()),
            _ if self.is_live() => Err(CommandError::NotRinging),
            _ => Err(CommandError::UnknownLeg),
        }
    }
}
