//! The room of a call, the browsers in it and the Link to its telephone: requests to nodes and their replies.
use crate::call::{Call, CallState, Room, WaitingJoin};
use crate::desk::{Desk, Step};
use crate::ending::{End, close_room, end_call, hang_up};
use crate::ids::{Now, Tag};
use crate::input::RequestFailure;
use crate::leg::{LegState, PeerMedia, TelephoneMedia};
use crate::output::{CommandError, CommandReply, NodeRequest, RefusalCode};
use crate::policy::RecordingMode;
use crate::recording;
use crate::timers::TimerKey;
use crate::view::Direction;
use offhook_contract::gateway::{AnswerTelephone, DialTelephone, TelephoneAnswered, TelephoneDialled};
use offhook_contract::sfu::{ConnectLink, HoldLeg, JoinPeer, MuteLeg, OpenLink, OpenRoom, PeerJoined, RoomKind};
use offhook_contract::{DaemonKind, ErrorCode, HangupCause, LegId, LinkAnswer, LinkOffer, NodeId, UnixMs};
use std::time::Duration;

pub(crate) fn open_room(call: &mut Call, desk: &mut Desk, sfu: NodeId) {
    let (tried, joins) = match &mut call.room {
        Room::Opening { tried, joins, .. } => (std::mem::take(tried), std::mem::take(joins)),
        _ => (Vec::new(), Vec::new()),
    };
    let tried = tried.into_iter().chain([sfu.clone()]).collect();
    call.room = Room::Opening { sfu: sfu.clone(), tried, joins };
    let kind = if call.direction == Direction::Echo { RoomKind::Echo } else { RoomKind::Conversation };
    let body = NodeRequest::OpenRoom(OpenRoom { room: call.room_id(), kind });
    desk.request(call, sfu, body, Step::OpenRoom);
}

pub(crate) fn room_opened(
    call: &mut Call,
    desk: &mut Desk,
    now: Now,
    node: NodeId,
    result: Result<(), RequestFailure>,
) {
    let Room::Opening { sfu, joins, tried } = &mut call.room else { return };
    if *sfu != node {
        return;
    }
    if !matches!(result, Err(RequestFailure::Refused(_))) && matches!(call.state, CallState::Ended { .. }) {
        return close_room(call, desk, node);
    }
    match result {
        _ if matches!(call.state, CallState::Ended { .. }) => call.room = Room::Closed,
        Ok(()) => {
            let joins = std::mem::take(joins);
            call.room = Room::Open { sfu: node, since: now.at };
            for WaitingJoin { tag, leg, offer_sdp } in joins {
                join(call, desk, tag, leg, offer_sdp);
            }
            open_link(call, desk);
        }
        Err(failure) => match desk.nodes.least_loaded(DaemonKind::Sfu, tried).map(|n| n.node.clone()) {
            Some(other) => open_room(call, desk, other),
            None => end_call(call, desk, now, &End::system(cause_of(&failure))),
        },
    }
}

/// What a node's refusal means for the call.
fn cause_of(failure: &RequestFailure) -> HangupCause {
    match failure {
        RequestFailure::Unreachable => HangupCause::NodeLost,
        RequestFailure::Refused(error) => match error.code {
            ErrorCode::Exhausted => HangupCause::LimitReached,
            ErrorCode::Draining => HangupCause::Drained,
            _ => HangupCause::InternalError,
        },
    }
}

pub(crate) fn join(call: &mut Call, desk: &mut Desk, tag: Tag, leg: LegId, offer_sdp: String) {
    match &mut call.room {
        Room::Opening { joins, .. } => {
            if let Some(at) = joins.iter().position(|j| j.leg == leg) {
                let former = joins.remove(at);
                desk.refuse(former.tag, CommandError::new(RefusalCode::Conflict, "the page joined again"));
            }
            joins.push(WaitingJoin { tag, leg, offer_sdp });
        }
        Room::Open { sfu, .. } => {
            let (sfu, emergency) = (sfu.clone(), call.is_emergency());
            if let Some(browser) = call.leg_mut(&leg).and_then(|l| l.browser_mut()) {
                browser.joining = Some(false);
            }
            let body = JoinPeer { room: call.room_id(), leg: leg.clone(), offer_sdp: offer_sdp.clone(), emergency };
            desk.request(call, sfu, NodeRequest::JoinPeer(body), Step::Join { leg, tag, offer_sdp });
        }
        Room::None | Room::Closed => {
            desk.refuse(tag, CommandError::new(RefusalCode::Conflict, "the call has no media yet"));
        }
    }
}

/// A page's attempt to join, as it was sent.
pub(crate) struct Attempt {
    pub leg: LegId,
    pub tag: Tag,
    pub offer_sdp: String,
    pub node: NodeId,
}

pub(crate) fn joined(
    call: &mut Call,
    desk: &mut Desk,
    now: Now,
    attempt: Attempt,
    result: Result<PeerJoined, RequestFailure>,
) {
    let Attempt { leg, tag, offer_sdp, node } = attempt;
    if !call.is_live() {
        return desk.refuse(tag, CommandError::new(RefusalCode::Conflict, "the call has ended"));
    }
    match result {
        Ok(joined) => {
            peer_is_in(call, desk, now, &leg);
            let PeerJoined { answer_sdp, slot_mids, announcer_mid } = joined;
            desk.reply(tag, Ok(CommandReply::Joined { answer_sdp, slot_mids, announcer_mid }));
        }
        Err(failure) => {
            if let Some(browser) = call.leg_mut(&leg).and_then(|l| l.browser_mut()) {
                browser.joining = None;
            }
            let gone = match &failure {
                RequestFailure::Refused(error) => error.code == ErrorCode::NotFound,
                RequestFailure::Unreachable => desk.nodes.get(&node).is_none(),
            };
            let same = call.open_sfu() == Some(&node);
            if gone && same && room_lost(call, desk, now) {
                return join(call, desk, tag, leg, offer_sdp);
            }
            desk.refuse(tag, join_refusal(&failure));
        }
    }
}

fn join_refusal(failure: &RequestFailure) -> CommandError {
    let code = match failure {
        RequestFailure::Unreachable => RefusalCode::Unavailable,
        RequestFailure::Refused(error) => match error.code {
            ErrorCode::Invalid => RefusalCode::Invalid,
            ErrorCode::Exhausted => RefusalCode::LimitReached,
            ErrorCode::Refused => RefusalCode::Refused,
            ErrorCode::Conflict => RefusalCode::Conflict,
            _ => RefusalCode::Unavailable,
        },
    };
    CommandError::new(code, failure.to_string())
}

fn peer_is_in(call: &mut Call, desk: &mut Desk, now: Now, leg_id: &LegId) {
    let room = call.room_id();
    let Some(leg) = call.leg_mut(leg_id) else { return };
    leg.placed = now.at;
    leg.missed_in_room = 0;
    let (muted, held) = (leg.muted, if let LegState::Held { by } = &leg.state { Some(by.clone()) } else { None });
    if let Some(browser) = leg.browser_mut() {
        browser.media = match browser.joining.take() {
            Some(true) => PeerMedia::Connected { joined: now.wall },
            _ => PeerMedia::Joined { at: now.wall },
        };
    }
    desk.timers.set(TimerKey::MediaDue(call.id.clone(), leg_id.clone()), now.at + desk.policy.media_timeout);
    recording::advance(call, desk, now, false);
    let Some(sfu) = call.open_sfu().cloned() else { return };
    if muted {
        let body = NodeRequest::MuteLeg(MuteLeg { room: room.clone(), leg: leg_id.clone(), muted });
        desk.insist(call, sfu.clone(), body, Step::Mute { leg: leg_id.clone(), muted, tag: None });
    }
    if let Some(by) = held {
        let body = NodeRequest::HoldLeg(HoldLeg { room, leg: leg_id.clone(), held: true });
        desk.insist(call, sfu, body, Step::Hold { leg: leg_id.clone(), by, held: true, tag: None });
    }
}

pub(crate) fn peer_connected(call: &mut Call, desk: &mut Desk, now: Now, leg_id: &LegId) {
    let Some(browser) = call.leg_mut(leg_id).and_then(|l| l.browser_mut()) else { return };
    if let Some(before_reply) = browser.joining.as_mut() {
        *before_reply = true;
    } else if let PeerMedia::Joined { at } = browser.media {
        browser.media = PeerMedia::Connected { joined: at };
        desk.timers.clear(&TimerKey::MediaDue(call.id.clone(), leg_id.clone()));
        recording::advance(call, desk, now, false);
    }
}

/// The room is gone with its node. Browsers can come back to another one; a telephone's Link cannot be moved, so its
/// call ends. True when there is a new room to wait for.
pub(crate) fn room_lost(call: &mut Call, desk: &mut Desk, now: Now) -> bool {
    if !call.is_live() || matches!(call.room, Room::Opening { .. }) {
        return call.is_live();
    }
    let next = desk.nodes.least_loaded(DaemonKind::Sfu, &[]).map(|n| n.node.clone());
    let Some(sfu) = next.filter(|_| call.telephone().is_none()) else {
        end_call(call, desk, now, &End::system(HangupCause::NodeLost));
        return false;
    };
    desk.story(call, now.wall, "room_lost", None, serde_json::json!({ "next": sfu }));
    recording::room_lost(call, desk, now);
    let due = now.at + desk.policy.page_grace;
    for leg in call.legs.iter_mut().filter(|l| l.is_live() && l.state != LegState::Ringing) {
        let id = leg.id.clone();
        if let Some(browser) = leg.browser_mut() {
            browser.media = PeerMedia::None;
            desk.timers.set(TimerKey::MediaDue(call.id.clone(), id), due);
        }
    }
    open_room(call, desk, sfu);
    true
}

/// Opens the SFU's half of the Link for a telephone that waits for it.
pub(crate) fn open_link(call: &mut Call, desk: &mut Desk) {
    let Some(sfu) = call.open_sfu().cloned() else { return };
    let waits = |t: &crate::leg::Telephone| matches!(t.media, TelephoneMedia::Waiting | TelephoneMedia::Opening);
    let Some(leg) = call.telephone().filter(|l| l.is_live() && l.telephone().is_some_and(waits)) else { return };
    let leg = leg.id.clone();
    let body = OpenLink { room: call.room_id(), leg: leg.clone(), emergency: call.is_emergency() };
    let body = NodeRequest::OpenLink(body);
    desk.request(call, sfu, body, Step::OpenLink { leg });
}

pub(crate) fn link_opened(
    call: &mut Call,
    desk: &mut Desk,
    now: Now,
    leg_id: LegId,
    result: Result<LinkOffer, RequestFailure>,
) {
    if !call.is_live() {
        return;
    }
    let offer = match result {
        Ok(offer) => offer,
        Err(failure) => return end_call(call, desk, now, &End::system(cause_of(&failure))),
    };
    // A gateway is always given a number: the largest is longer than any call.
    let longest = call.longest(&desk.policy.dial).map_or(u64::MAX, |l| l.as_secs());
    let max_duration_s = u32::try_from(longest).unwrap_or(u32::MAX);
    let ring = u32::try_from(desk.policy.ring_timeout.as_millis()).unwrap_or(u32::MAX);
    let Some(leg) = call.leg_mut(&leg_id) else { return };
    leg.placed = now.at;
    let Some(telephone) = leg.telephone_mut() else { return };
    let gateway = telephone.gateway.clone();
    match (&telephone.media, telephone.number.clone()) {
        (TelephoneMedia::Waiting, Some(to)) => {
            let trunk = telephone.trunk.clone();
            telephone.media = TelephoneMedia::Dialling { offer: Box::new(offer.clone()) };
            let body = NodeRequest::DialTelephone(DialTelephone {
                leg: leg_id.clone(),
                trunk,
                to,
                caller_id: None,
                ring_timeout_ms: ring,
                max_duration_s,
                link: offer,
            });
            desk.request(call, gateway, body, Step::Dial { leg: leg_id });
        }
        (TelephoneMedia::Opening, _) => {
            telephone.media = TelephoneMedia::Answering;
            let body = AnswerTelephone { leg: leg_id.clone(), link: offer, max_duration_s };
            desk.request(call, gateway, NodeRequest::AnswerTelephone(body), Step::Answer { leg: leg_id });
        }
        _ => {}
    }
}

/// A refused dial is the carrier's or the gateway's last word; an unanswered one may still have been carried out.
pub(crate) fn dialled(
    call: &mut Call,
    desk: &mut Desk,
    now: Now,
    leg_id: LegId,
    result: Result<TelephoneDialled, RequestFailure>,
) {
    let refused = matches!(result, Err(RequestFailure::Refused(_)));
    let live = call.is_live();
    let Some(telephone) = call.leg_mut(&leg_id).and_then(|l| l.telephone_mut()) else { return };
    let gateway = telephone.gateway.clone();
    if refused {
        telephone.media = TelephoneMedia::Gone;
    } else if !live {
        let cause = if let CallState::Ended { cause, .. } = call.state { cause } else { HangupCause::Cancelled };
        return hang_up(call, desk, gateway, leg_id, cause);
    }
    match result {
        Ok(TelephoneDialled { link, sip_call_id }) => {
            telephone.sip_call_id = Some(sip_call_id);
            connect_link(call, desk, now, leg_id, link);
        }
        Err(failure) => {
            if failure == RequestFailure::Unreachable {
                telephone.media = TelephoneMedia::Connecting;
            }
            end_call(call, desk, now, &End::system(dial_cause(&failure)));
        }
    }
}

fn dial_cause(failure: &RequestFailure) -> HangupCause {
    match failure {
        RequestFailure::Unreachable => HangupCause::CarrierUnavailable,
        RequestFailure::Refused(error) => match error.code {
            ErrorCode::Refused => HangupCause::NotAllowed,
            ErrorCode::Exhausted => HangupCause::LimitReached,
            ErrorCode::NotFound | ErrorCode::Draining => HangupCause::CarrierUnavailable,
            _ => HangupCause::InternalError,
        },
    }
}

pub(crate) fn telephone_answered(
    call: &mut Call,
    desk: &mut Desk,
    now: Now,
    leg_id: LegId,
    result: Result<TelephoneAnswered, RequestFailure>,
) {
    if !call.is_live() {
        return;
    }
    match result {
        Ok(TelephoneAnswered { link }) => {
            connect_link(call, desk, now, leg_id, link);
            activate(call, desk, now, now.wall);
        }
        // The caller hung up in the same moment; the gateway's fact may still be on its way.
        Err(RequestFailure::Refused(error)) if matches!(error.code, ErrorCode::NotFound | ErrorCode::Conflict) => {
            end_call(call, desk, now, &End::by(&leg_id, HangupCause::Cancelled));
        }
        Err(failure) => end_call(call, desk, now, &End::system(cause_of(&failure))),
    }
}

fn connect_link(call: &mut Call, desk: &mut Desk, now: Now, leg_id: LegId, answer: LinkAnswer) {
    let Some(leg) = call.leg_mut(&leg_id) else { return };
    (leg.placed, leg.missed, leg.missed_in_room) = (now.at, 0, 0);
    if let Some(telephone) = leg.telephone_mut() {
        telephone.media = TelephoneMedia::Connecting;
    }
    let Some(sfu) = call.open_sfu().cloned() else { return };
    let body = NodeRequest::ConnectLink(ConnectLink { room: call.room_id(), leg: leg_id.clone(), answer });
    desk.insist(call, sfu, body, Step::ConnectLink { leg: leg_id });
}

pub(crate) fn link_connected(
    call: &mut Call,
    desk: &mut Desk,
    now: Now,
    leg_id: &LegId,
    result: Result<(), RequestFailure>,
) {
    if !call.is_live() {
        return;
    }
    match result {
        Ok(()) => link_seen(call, desk, now, leg_id),
        Err(failure) => end_call(call, desk, now, &End::system(cause_of(&failure))),
    }
}

/// The SFU says that the telephone's Link leads to its gateway.
pub(crate) fn link_seen(call: &mut Call, desk: &mut Desk, now: Now, leg_id: &LegId) {
    let Some(telephone) = call.leg_mut(leg_id).and_then(|l| l.telephone_mut()) else { return };
    if telephone.media == TelephoneMedia::Connecting {
        telephone.media = TelephoneMedia::Connected;
        recording::advance(call, desk, now, false);
    }
}

/// Somebody answered: every leg that is not ended talks from `answered` on.
pub(crate) fn activate(call: &mut Call, desk: &mut Desk, now: Now, answered: UnixMs) {
    if !call.is_live() || call.is_active() {
        return;
    }
    let answered = answered.clamp(call.started, now.wall.max(call.started));
    let ago = Duration::from_millis(now.wall.since(answered));
    call.state = CallState::Active { answered, since: now.at.saturating_sub(ago) };
    for leg in call.legs.iter_mut().filter(|l| l.is_live()) {
        leg.state = LegState::Talking;
        leg.answered = Some(answered);
    }
    desk.timers.clear(&TimerKey::Ring(call.id.clone()));
    if let Some(longest) = call.longest(&desk.policy.dial) {
        desk.timers.set(TimerKey::MaxDuration(call.id.clone()), now.at + longest);
    }
    desk.story(call, answered, "answered", None, serde_json::json!({}));
    if call.recording_mode == RecordingMode::OnAnswer {
        recording::begin(call, desk, now);
    }
}
