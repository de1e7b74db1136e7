//! The SIP leg: one enum with its data inside. Outgoing legs begin in [`outbound`], incoming ones in [`inbound`]; what both
//! share after the answer is in [`established`].

mod established;
mod fork;
mod inbound;
mod outbound;

pub(crate) use fork::decline;
pub(crate) use inbound::Invitation;

use crate::api::{CommandError, Ended, LegEvent, LegHandle, Now, Side, SocketConfig};
use crate::cause::{reason_header, refusal_code};
use crate::core::{Core, LegTimer, TimerKey};
use crate::transaction::TxId;
use established::Established;
use inbound::Offered;
use offhook_contract::HangupCause;
use offhook_wire_sdp::telephony::{Agreed, AudioSession, LocalDescription};
use offhook_wire_sip::{Message, Method};
use outbound::Attempt;
use std::net::SocketAddr;

/// How far an unanswered call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Trying,
    Ringing,
    Early,
}

/// Where a leg stands. `Ended` is told when it leaves the upper half.
enum State {
    /// INVITE sent, nothing heard.
    Inviting(Attempt),
    /// A provisional response came.
    Proceeding(Attempt, Progress),
    /// An INVITE came and is unanswered.
    Offered(Offered, Progress),
    /// We sent 200 and wait for the ACK.
    Answered(Established),
    Active(Established),

    /// Given up before any response; CANCEL must wait for one (RFC 3261 §9.1).
    CancelLater(Attempt, HangupCause),
    /// CANCEL sent, the final response is missing.
    Cancelling(Attempt),
    /// Hung up between 200 and ACK; BYE must wait for it (RFC 3261 §15).
    ByeLater(Established, HangupCause),
    /// BYE sent, its answer is missing.
    Releasing(Established),
    Gone,
}

/// What a leg receives and what was agreed on.
struct Media {
    ours: AudioSession,
    local: LocalDescription,
    agreed: Option<Agreed>,
}

/// One leg of one trunk.
pub(crate) struct Leg {
    handle: LegHandle,
    trunk: usize,
    socket: SocketConfig,
    call_id: String,
    /// Our tag: with the Call-ID it finds the leg of a request.
    local_tag: String,
    media: Option<Media>,
    state: State,
}

impl Leg {
    pub const fn trunk(&self) -> usize {
        self.trunk
    }

    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    pub fn local_tag(&self) -> &str {
        &self.local_tag
    }

    /// Whether the leg is still somebody's call.
    pub const fn is_live(&self) -> bool {
        matches!(
            self.state,
            State::Inviting(_) | State::Proceeding(..) | State::Offered(..) | State::Answered(_) | State::Active(_)
        )
    }

    pub const fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    /// Ends the leg in whatever state.
    pub fn hang_up(&mut self, core: &mut Core, now: Now, cause: HangupCause) -> Result<(), CommandError> {
        if !self.is_live() {
            return Err(CommandError::UnknownLeg);
        }
        self.end(core, Ended { cause, by: Side::Us, sip_code: None, q850: None });
        self.state = match self.take() {
            State::Inviting(attempt) => State::CancelLater(attempt, cause),
            State::Proceeding(attempt, _) => self.cancel(core, now, attempt, cause),
            State::Offered(offered, _) => {
                offered.refuse(self, core, now, refusal_code(cause), &[reason_header(cause)]);
                State::Gone
            }
            State::Answered(established) => {
                // Ending stopped the timers; the 200 is repeated until its ACK all the same.
                self.await_ack(core, now);
                State::ByeLater(established, cause)
            }
            State::Active(established) => self.bye(core, now, established, cause),
            over => over,
        };
        Ok(())
    }

    /// A response to a request of this leg.
    pub fn on_response(&mut self, core: &mut Core, now: Now, tx: TxId, response: &Message<'_>, source: SocketAddr) {
        let code = response.code().unwrap_or_default();
        self.state = match self.take() {
            State::Inviting(attempt) if attempt.is(tx) => {
                self.on_invite_response(core, now, attempt, Progress::Trying, response, source)
            }
            State::Proceeding(attempt, progress) if attempt.is(tx) => {
                self.on_invite_response(core, now, attempt, progress, response, source)
            }
            State::CancelLater(attempt, cause) if attempt.is(tx) => match code {
                100..=199 => self.cancel(core, now, attempt, cause),
                200..=299 => self.decline_late_answer(core, now, tx, response, source),
                _ => State::Gone,
            },
            State::Cancelling(attempt) if attempt.is(tx) => match code {
                100..=199 => State::Cancelling(attempt),
                // The answer crossed our CANCEL.
                200..=299 => self.decline_late_answer(core, now, tx, response, source),
                _ => State::Gone,
            },
            State::Releasing(established) if code >= 200 => self.on_bye_response(core, now, established, response),
            other => {
                // A 2xx from a second callee behind a forking proxy (RFC 3261 §13.2.2.4).
                if *response.method() == Method::Invite && (200..300).contains(&code) {
                    decline(core, now, tx, response, source);
                }
                other
            }
        };
    }

    /// Nothing answered a request of this leg (timers B and F).
    pub fn on_transaction_timeout(&mut self, core: &mut Core, tx: TxId) {
        self.state = match self.take() {
            State::Inviting(attempt) if attempt.is(tx) => {
                let cause = HangupCause::CarrierUnavailable;
                self.end(core, Ended { cause, by: Side::Them, sip_code: None, q850: None });
                State::Gone
            }
            State::CancelLater(attempt, _) if attempt.is(tx) => State::Gone,
            State::Releasing(_) => State::Gone,
            other => other,
        };
    }

    pub fn on_timer(&mut self, core: &mut Core, now: Now, timer: LegTimer) {
        match timer {
            LegTimer::NoAnswer => self.give_up(core, now, HangupCause::NoAnswer),
            LegTimer::Silence => self.give_up(core, now, HangupCause::CarrierUnavailable),
            LegTimer::MaxDuration => self.give_up(core, now, HangupCause::LimitReached),
            LegTimer::GiveUp => {
                if let State::Cancelling(attempt) = &self.state {
                    core.drop_client(attempt.tx());
                    self.state = State::Gone;
                }
            }
            LegTimer::OkAgain => self.repeat_ok(core, now),
            LegTimer::AckWait => self.on_missing_ack(core, now),
        }
    }

    /// A limit was reached; a leg that is already over has none.
    fn give_up(&mut self, core: &mut Core, now: Now, cause: HangupCause) {
        let unheard = matches!(self.state, State::Inviting(_));
        // Nobody rang: the carrier is at fault, not the callee.
        let cause = if unheard && cause == HangupCause::NoAnswer { HangupCause::CarrierUnavailable } else { cause };
        if self.is_live() {
            // Live legs take the order.
            let _ = self.hang_up(core, now, cause);
        }
    }

    /// A request inside this leg's dialog; `tx` is absent for ACK.
    pub fn on_request(
        &mut self,
        core: &mut Core,
        now: Now,
        tx: Option<TxId>,
        request: &Message<'_>,
        source: SocketAddr,
    ) -> bool {
        let partner = match &self.state {
            // A callee's tag is not known before its answer.
            State::Inviting(_) | State::Proceeding(..) | State::CancelLater(..) | State::Cancelling(_) => {
                !matches!(request.method(), Method::Bye | Method::Ack)
            }
            State::Offered(offered, _) => offered.dialog().is_partner(request),
            State::Answered(established)
            | State::Active(established)
            | State::ByeLater(established, _)
            | State::Releasing(established) => established.dialog.is_partner(request),
            State::Gone => false,
        };
        if !partner {
            return false;
        }
        match tx {
            Some(tx) => self.on_dialog_request(core, now, tx, request, source),
            None => self.on_ack(core, now, request),
        }
        true
    }

    fn take(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Gone)
    }

    /// The last event of the leg; its limits no longer matter.
    fn end(&self, core: &mut Core, ended: Ended) {
        core.stop_leg_timers(self.handle);
        core.emit(self.handle, LegEvent::Ended(ended));
    }

    const fn timer(&self, timer: LegTimer) -> TimerKey {
        TimerKey::Leg(self.handle, timer)
    }

    fn contact(&self, core: &Core) -> String {
        let user = core.slot(self.trunk).map(|slot| slot.trunk.contact_user()).unwrap_or_default();
        format!("<sip:{user}@{}>", self.socket.advertised)
    }
}
