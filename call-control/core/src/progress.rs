//! Events from nodes, and the replies to our requests.
use crate::board::Switchboard;
use crate::call::{Call, CallState};
use crate::commands;
use crate::desk::{Desk, Pending, Step};
use crate::dial::ring_telephone;
use crate::ending::{End, end_call};
use crate::ids::{Now, RequestId, Tag};
use crate::input::{NodeReply, RequestFailure};
use crate::leg::{Leg, LegState, Owner};
use crate::media::{self, Attempt};
use crate::output::{ClientEvent, CommandError, Output, RefusalCode};
use crate::recording;
use crate::view::{Reason, RecordingTrouble};
use offhook_contract::{CallId, Context, ErrorCode, Event, HangupCause, LegId};

/// Our reply and our next request may overtake each other on the bus.
const RING_ATTEMPTS: u8 = 5;

impl Switchboard {
    pub(crate) fn event(&mut self, now: Now, context: &Context, event: Event) {
        let leg = match &event {
            Event::PeerConnected(e) => &e.leg,
            Event::SlotChanged(e) => &e.listener,
            Event::LegRinging(e) | Event::LegEarlyMedia(e) => &e.leg,
            Event::DigitReceived(e) => &e.leg,
            Event::LegStats(_) | Event::Clock(_) | Event::TrunkChanged(_) | Event::FactStored(_) => return,
        };
        let Some(id) = self.call_of(context, leg) else { return };
        let Some(call) = self.calls.get_mut(&id).filter(|c| c.is_live()) else { return };
        let desk = &mut self.desk;
        match event {
            Event::PeerConnected(e) => media::peer_connected(call, desk, now, &e.leg),
            Event::SlotChanged(e) => tell_slot(call, desk, &e.listener, e.slot, e.speaker),
            Event::LegRinging(_) => {
                if call.state == CallState::New {
                    call.state = CallState::Ringing;
                    desk.story(call, now.wall, "ringing", None, serde_json::json!({}));
                }
            }
            Event::LegEarlyMedia(e) => early_media(call, desk, now, &e.leg),
            Event::DigitReceived(e) => commands::tell_digit(call, desk, &e.leg, e.digit),
            Event::LegStats(_) | Event::Clock(_) | Event::TrunkChanged(_) | Event::FactStored(_) => {}
        }
        self.desk.touched.insert(id);
    }

    fn call_of(&self, context: &Context, leg: &LegId) -> Option<CallId> {
        let has =
            |c: &&Call| context.tenant.as_ref().is_none_or(|t| *t == c.tenant) && c.legs.iter().any(|l| l.id == *leg);
        let named = context.call.as_ref().and_then(|id| self.calls.get(id)).filter(has);
        named.or_else(|| self.calls.values().find(has)).map(|c| c.id.clone())
    }

    pub(crate) fn reply(&mut self, now: Now, id: RequestId, result: Result<NodeReply, RequestFailure>) {
        let Some(pending) = self.desk.pending.remove(&id) else { return };
        let undelivered = result == Err(RequestFailure::Unreachable);
        let pending = match undelivered {
            true => self.desk.retry_later(now, id, pending),
            false => Some(pending),
        };
        let Some(Pending { call, node, step, .. }) = pending else { return };
        if let Step::Inventory { asked, anew } = step {
            return self.inventory(now, &node, asked, anew, result.ok());
        }
        let Some(call_id) = call else { return };
        let Some(call) = self.calls.get_mut(&call_id) else {
            return;
        };
        call.in_flight = call.in_flight.saturating_sub(1);
        step_done(call, &mut self.desk, now, node, step, result);
        self.desk.touched.insert(call_id);
    }
}

fn done(result: Result<NodeReply, RequestFailure>) -> Result<(), RequestFailure> {
    result.map(|_| ())
}

/// The reply as the one kind that the request asked for.
fn of<T>(
    result: Result<NodeReply, RequestFailure>,
    take: impl FnOnce(NodeReply) -> Option<T>,
) -> Result<T, RequestFailure> {
    let refused = || {
        let error = offhook_contract::RequestError::new(ErrorCode::Internal, "the node sent another kind of reply");
        RequestFailure::Refused(error)
    };
    result.and_then(|reply| take(reply).ok_or_else(refused))
}

macro_rules! take {
    ($result:expr, $kind:ident) => {
        of($result, |reply| if let NodeReply::$kind(value) = reply { Some(value) } else { None })
    };
}

fn step_done(
    call: &mut Call,
    desk: &mut Desk,
    now: Now,
    node: offhook_contract::NodeId,
    step: Step,
    result: Result<NodeReply, RequestFailure>,
) {
    let words = |failure: RequestFailure| match failure {
        RequestFailure::Unreachable => Reason::from(RecordingTrouble::NodeUnreachable),
        RequestFailure::Refused(error) => Reason::from(error.message.as_str()),
    };
    match step {
        Step::OpenRoom => media::room_opened(call, desk, now, node, done(result)),
        Step::Join { leg, tag, offer_sdp } => {
            media::joined(call, desk, now, Attempt { leg, tag, offer_sdp, node }, take!(result, PeerJoined));
        }
        Step::OpenLink { leg } => media::link_opened(call, desk, now, leg, take!(result, LinkOffer)),
        Step::ConnectLink { leg } => media::link_connected(call, desk, now, &leg, done(result)),
        Step::Dial { leg } => media::dialled(call, desk, now, leg, take!(result, Dialled)),
        Step::Answer { leg } => media::telephone_answered(call, desk, now, leg, take!(result, Answered)),
        Step::Ring { leg, attempt } => rung(call, desk, now, node, leg, attempt, done(result)),
        Step::Mute { leg, muted, tag } => {
            let result = done(result);
            if let (Some(found), Ok(())) = (call.leg_mut(&leg), &result) {
                found.muted = muted;
            }
            answer_giver(call, desk, tag, &leg, result);
        }
        Step::Hold { leg, by, held, tag } => {
            let result = done(result);
            if let (Some(found), Ok(())) = (call.leg_mut(&leg).filter(|l| l.is_answered()), &result) {
                found.state = if held { LegState::Held { by: by.clone() } } else { LegState::Talking };
            }
            answer_giver(call, desk, tag, &by, result);
        }
        Step::Digits { by, tag } => answer_giver(call, desk, Some(tag), &by, done(result)),
        Step::OpenTap { recording } => {
            recording::tap_opened(call, desk, now, &recording, take!(result, Tap).map_err(words));
        }
        Step::StartRecording { recording } => {
            recording::recorder_asked(call, desk, now, &recording, done(result).map_err(words));
        }
        Step::StopRecording { recording } => {
            recording::recorder_stopped(call, desk, now, &recording, &done(result));
        }
        Step::CloseRoom | Step::HangUp { .. } | Step::CloseTap { .. } | Step::EndOrphan | Step::Inventory { .. } => {}
    }
}

fn answer_giver(call: &mut Call, desk: &mut Desk, tag: Option<Tag>, leg: &LegId, result: Result<(), RequestFailure>) {
    let Some(tag) = tag else { return };
    let page = call.leg(leg).and_then(Leg::browser).and_then(|b| b.owner.session()).cloned();
    let answered = match result {
        Ok(()) => commands::reply(call, desk, tag, leg, page.as_ref()),
        Err(failure) => Err(CommandError::new(RefusalCode::Unavailable, failure.to_string())),
    };
    if let Err(refusal) = answered {
        desk.refuse(tag, refusal);
    }
}

/// A gateway that does not know the leg yet is asked again; one that still does not has lost its caller.
fn rung(
    call: &mut Call,
    desk: &mut Desk,
    now: Now,
    gateway: offhook_contract::NodeId,
    leg: LegId,
    attempt: u8,
    result: Result<(), RequestFailure>,
) {
    let Err(RequestFailure::Refused(error)) = result else { return };
    if !call.is_live() || call.is_active() || error.code != ErrorCode::NotFound {
        return;
    }
    if attempt < RING_ATTEMPTS {
        ring_telephone(call, desk, gateway, leg, attempt + 1);
    } else {
        end_call(call, desk, now, &End { cause: HangupCause::Cancelled, by: Some(leg), released: true, at: None });
    }
}

fn early_media(call: &mut Call, desk: &mut Desk, now: Now, leg: &LegId) {
    if !matches!(call.state, CallState::New | CallState::Ringing) {
        return;
    }
    let Some(found) = call.leg_mut(leg).filter(|l| l.telephone().is_some() && l.is_live()) else { return };
    found.state = LegState::Early;
    call.state = CallState::Early;
    desk.story(call, now.wall, "early_media", Some(leg), serde_json::json!({}));
}

fn tell_slot(call: &Call, desk: &mut Desk, listener: &LegId, slot: u8, speaker: Option<LegId>) {
    let owner = call.leg(listener).and_then(Leg::browser).map(|b| &b.owner);
    let Some(Owner::Page(session) | Owner::Lost(session)) = owner else { return };
    let name = speaker.as_ref().and_then(|s| call.leg(s)).map(Leg::name);
    let event = ClientEvent::Slot { call: call.id.clone(), slot, leg: speaker, name };
    desk.out.push_back(Output::Notify { session: session.clone(), event });
}
