//! The end of a call: every leg, the room and the recording are let go, whatever was under way.
use crate::board::Switchboard;
use crate::call::{Call, CallState, Room};
use crate::desk::{Desk, Step};
use crate::ids::Now;
use crate::leg::{LegState, TelephoneMedia};
use crate::output::{CommandError, NodeRequest};
use crate::recording;
use crate::view::Direction;
use offhook_contract::gateway::HangUpTelephone;
use offhook_contract::sfu::CloseRoom;
use offhook_contract::{CallId, HangupCause, LegId, NodeId, UnixMs};

/// Why a call ends, and by whom; without `by` it is the system's doing.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub cause: HangupCause,
    pub by: Option<LegId>,
    /// The node of `by` has let go of it already.
    pub released: bool,
    /// When it happened, where that was not now (a fact that came late).
    pub at: Option<UnixMs>,
}

impl End {
    pub fn by(leg: &LegId, cause: HangupCause) -> Self {
        Self { cause, by: Some(leg.clone()), released: false, at: None }
    }
    pub const fn system(cause: HangupCause) -> Self {
        Self { cause, by: None, released: false, at: None }
    }
}

impl Switchboard {
    pub(crate) fn end_call(&mut self, now: Now, id: &CallId, end: End) {
        if let Some(call) = self.calls.get_mut(id) {
            end_call(call, &mut self.desk, now, &end);
            self.desk.touched.insert(id.clone());
        }
    }
}

pub(crate) fn end_call(call: &mut Call, desk: &mut Desk, now: Now, end: &End) {
    let (answered, at) = match call.state {
        CallState::Ended { .. } => return,
        CallState::Active { answered, since } => {
            let length = now.at.saturating_sub(since);
            let measured = answered.plus_ms(u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
            (Some(answered), end.at.map_or(measured, |at| at.clamp(answered, measured)))
        }
        _ => (None, end.at.map_or(now.wall, |at| at.clamp(call.started, now.wall.max(call.started)))),
    };
    let data = serde_json::json!({ "cause": end.cause });
    desk.story(call, at, "ended", end.by.as_ref(), data);
    desk.clear_call_timers(call);
    release_telephone(call, desk, end);
    for leg in call.legs.iter_mut().filter(|l| l.is_live()) {
        leg.state = LegState::Ended { at, cause: end.cause };
    }
    recording::call_ended(call, desk, now);
    call.state = CallState::Ended { answered, at, cause: end.cause, by: end.by.clone() };
    call.afterwards = None;
    leave_room(call, desk, end.cause);
}

/// A telephone that is just being dialled is hung up when the gateway's reply says that it exists.
fn release_telephone(call: &mut Call, desk: &mut Desk, end: &End) {
    let Some(leg) = call.telephone_mut().filter(|l| l.is_live()) else { return };
    let id = leg.id.clone();
    let released = end.released && end.by.as_ref() == Some(&id);
    let Some(telephone) = leg.telephone_mut() else { return };
    if released {
        telephone.media = TelephoneMedia::Gone;
    } else if telephone.held_by_gateway() && !matches!(telephone.media, TelephoneMedia::Dialling { .. }) {
        let gateway = telephone.gateway.clone();
        hang_up(call, desk, gateway, id, end.cause);
    }
}

pub(crate) fn hang_up(call: &mut Call, desk: &mut Desk, gateway: NodeId, leg: LegId, cause: HangupCause) {
    let body = NodeRequest::HangUpTelephone(HangUpTelephone { leg: leg.clone(), cause });
    desk.insist(call, gateway, body, Step::HangUp { leg });
}

/// A room that is just being opened is closed when the reply comes.
fn leave_room(call: &mut Call, desk: &mut Desk, cause: HangupCause) {
    match &mut call.room {
        Room::Opening { joins, .. } => {
            for join in std::mem::take(joins) {
                desk.refuse(join.tag, CommandError::cause(cause, "the call has ended"));
            }
        }
        Room::Open { sfu, .. } => {
            let sfu = sfu.clone();
            close_room(call, desk, sfu);
        }
        Room::None | Room::Closed => call.room = Room::Closed,
    }
}

pub(crate) fn close_room(call: &mut Call, desk: &mut Desk, sfu: NodeId) {
    call.room = Room::Closed;
    let body = NodeRequest::CloseRoom(CloseRoom { room: call.room_id() });
    desk.insist(call, sfu, body, Step::CloseRoom);
}

/// Minutes of an outbound call that has ended, begun minutes counting whole.
pub(crate) fn billed_minutes(call: &Call) -> u32 {
    match call.state {
        CallState::Ended { answered: Some(answered), at, .. } if call.direction == Direction::Outbound => {
            u32::try_from(at.since(answered).div_ceil(60_000)).unwrap_or(u32::MAX)
        }
        _ => 0,
    }
}
