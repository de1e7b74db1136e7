//! New calls: what a dialled text means, whether it may be dialled, and the first requests. A refused attempt is
//! written to the log as an ended call with its cause.
use crate::board::Switchboard;
use crate::call::{Call, CallState, ECHO_NUMBER, Room, Target, Told, echo_party};
use crate::desk::Desk;
use crate::ending::{End, end_call};
use crate::ids::{Now, SessionId, Tag};
use crate::input::{Actor, User};
use crate::leg::{Browser, Leg, LegState, Owner, Party, PeerMedia, Telephone, TelephoneMedia};
use crate::media::{activate, open_room};
use crate::output::{CommandError, CommandReply, NodeRequest, Output, RefusalCode};
use crate::place::NoCarrier;
use crate::policy::RecordingMode;
use crate::timers::TimerKey;
use crate::view::Direction;
use offhook_contract::control::{IncomingRoute, RouteIncoming};
use offhook_contract::dial::{Destination, DialRefusal, DialUsage};
use offhook_contract::gateway::RingTelephone;
use offhook_contract::{CallId, DaemonKind, HangupCause, LegId, NodeId, TenantId};
use std::time::Duration;

/// The gateway watches the ring time itself; ours is the net below it.
const GATEWAY_SLACK: Duration = Duration::from_secs(10);
/// Longer texts that are no known extension are telephone numbers.
const LONGEST_EXTENSION: usize = 6;
const LONGEST_DIALLED: usize = 64;

/// What a user dialled, and who it was.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub tenant: TenantId,
    pub caller: User,
    pub dialled: String,
    pub callee: Option<User>,
    pub recording: RecordingMode,
}

impl Switchboard {
    pub(crate) fn dial(&mut self, now: Now, tag: Tag, actor: &Actor, wish: Wish) {
        let Some(session) = actor.session.clone() else {
            return self.desk.refuse(tag, CommandError::new(RefusalCode::Invalid, "only a page can dial by itself"));
        };
        let placed = self.target(&wish, now).and_then(|target| {
            let sfu = self.media_server(target.is_emergency())?;
            Ok((target, sfu))
        });
        let (target, sfu) = match placed {
            Ok(placed) => placed,
            Err((cause, message)) => return self.refuse_call(now, tag, &wish, cause, message),
        };
        let mut call = self.new_call(now, &wish.tenant, target.direction(), target.recording(wish.recording));
        let leg = self.desk.ids.leg(now.wall);
        call.legs.push(browser_leg(leg.clone(), wish.caller, Owner::Page(session.clone()), LegState::Early, now));
        open_room(&mut call, &mut self.desk, sfu);
        let due = now.at + self.desk.policy.media_timeout;
        self.desk.timers.set(TimerKey::MediaDue(call.id.clone(), leg.clone()), due);
        self.count_outbound(now, &call);
        self.ring_target(&mut call, now, target);
        self.reply_call(tag, &mut call, &leg, Some(&session));
        self.take(call);
    }

    /// Rings the user's own pages; whoever answers is connected to `dialled`.
    pub(crate) fn originate(&mut self, now: Now, tag: Tag, wish: Wish) {
        let checked = self.free_to_ring(&wish.tenant, &wish.caller).and_then(|()| self.target(&wish, now));
        let target = match checked {
            Ok(target) => target,
            Err((cause, message)) => return self.refuse_call(now, tag, &wish, cause, message),
        };
        let mut call = self.new_call(now, &wish.tenant, target.direction(), target.recording(wish.recording));
        let leg = self.desk.ids.leg(now.wall);
        call.legs.push(browser_leg(leg.clone(), wish.caller, Owner::Nobody, LegState::Ringing, now));
        call.state = CallState::Ringing;
        call.afterwards = Some(target);
        self.desk.timers.set(TimerKey::Ring(call.id.clone()), now.at + self.desk.policy.ring_timeout);
        self.reply_call(tag, &mut call, &leg, None);
        self.take(call);
    }

    /// The user whose pages rang first has answered: now the call goes out.
    pub(crate) fn dial_afterwards(&mut self, now: Now, id: &CallId, target: Target) {
        let Some(mut call) = self.calls.remove(id) else { return };
        let checked = match &target {
            Target::User(user) => self.free_to_ring(&call.tenant, user),
            _ => Ok(()),
        };
        match checked.and_then(|()| self.media_server(target.is_emergency())) {
            Ok(sfu) => {
                self.count_outbound(now, &call);
                open_room(&mut call, &mut self.desk, sfu);
                self.ring_target(&mut call, now, target);
            }
            Err((cause, _)) => end_call(&mut call, &mut self.desk, now, &End::system(cause)),
        }
        self.take(call);
    }

    fn ring_target(&mut self, call: &mut Call, now: Now, target: Target) {
        let leg = self.desk.ids.leg(now.wall);
        let ring = self.desk.policy.ring_timeout;
        let mut until = now.at + ring;
        call.state = CallState::New;
        match target {
            Target::Echo => {
                call.legs.push(Leg::new(leg, echo_party(), LegState::Talking, now.wall));
                self.desk.story(call, now.wall, "dialled", None, serde_json::json!({}));
                return activate(call, &mut self.desk, now, now.wall);
            }
            Target::User(user) => {
                call.legs.push(browser_leg(leg, user, Owner::Nobody, LegState::Ringing, now));
                call.state = CallState::Ringing;
            }
            Target::Telephone(to) => {
                let emergency = matches!(to, Destination::Emergency(_));
                match self.desk.nodes.carrier(&self.desk.policy, &call.tenant, emergency) {
                    Ok(carrier) => {
                        call.legs.push(Leg::new(leg, outbound(carrier, to), LegState::Ringing, now.wall));
                        until += GATEWAY_SLACK;
                    }
                    Err(_) => {
                        return end_call(call, &mut self.desk, now, &End::system(HangupCause::CarrierUnavailable));
                    }
                }
            }
        }
        self.desk.timers.set(TimerKey::Ring(call.id.clone()), until);
        self.desk.story(call, now.wall, "dialled", None, serde_json::json!({}));
        crate::media::open_link(call, &mut self.desk);
    }

    /// A telephone calls one of our numbers.
    pub(crate) fn incoming(
        &mut self,
        now: Now,
        tag: Tag,
        route: RouteIncoming,
        callee: Option<User>,
        recording: RecordingMode,
    ) {
        if let Some((call, leg)) = self.known_incoming(&route) {
            return self.desk.out.push_back(Output::Route { tag, decision: IncomingRoute::Accept { call, leg } });
        }
        let mut call = self.new_call(now, &route.tenant, Direction::Inbound, recording);
        let telephone = Telephone {
            gateway: route.gateway.clone(),
            trunk: route.trunk,
            number: route.from.map(Destination::Number),
            name: route.from_name.filter(|n| !n.trim().is_empty()).map(|n| n.chars().take(64).collect()),
            sip_call_id: Some(route.sip_call_id),
            media: TelephoneMedia::Offered,
        };
        let leg = self.desk.ids.leg(now.wall);
        let mut caller = Leg::new(leg.clone(), Party::Telephone(telephone), LegState::Early, now.wall);
        caller.placed = now.at;
        call.legs.push(caller);
        let checked = match callee {
            None => Err((HangupCause::NotFound, "no user has this number".to_owned())),
            Some(user) => {
                let checked = self.room_for_call().and_then(|()| self.free_to_ring(&call.tenant, &user));
                // Also when it cannot ring: then it stands in the user's history as missed.
                let ringing = self.desk.ids.leg(now.wall);
                call.legs.push(browser_leg(ringing, user, Owner::Nobody, LegState::Ringing, now));
                checked
            }
        };
        self.desk.story(&mut call, now.wall, "incoming", None, serde_json::json!({}));
        if let Err((cause, _)) = checked {
            if let Some(telephone) = call.telephone_mut().and_then(Leg::telephone_mut) {
                telephone.media = TelephoneMedia::Gone;
            }
            end_call(&mut call, &mut self.desk, now, &End::system(cause));
            crate::audience::write_rows(&mut call, &mut self.desk);
            return self.desk.out.push_back(Output::Route { tag, decision: IncomingRoute::Reject { cause } });
        }
        call.state = CallState::Ringing;
        self.desk.timers.set(TimerKey::Ring(call.id.clone()), now.at + self.desk.policy.ring_timeout);
        let decision = IncomingRoute::Accept { call: call.id.clone(), leg: leg.clone() };
        self.desk.out.push_back(Output::Route { tag, decision });
        ring_telephone(&mut call, &mut self.desk, route.gateway, leg, 0);
        self.take(call);
    }

    fn known_incoming(&self, route: &RouteIncoming) -> Option<(CallId, LegId)> {
        let same = |l: &&Leg| {
            l.telephone().is_some_and(|t| {
                t.gateway == route.gateway && t.sip_call_id.as_deref() == Some(route.sip_call_id.as_str())
            })
        };
        let call = self.calls.values().find(|c| {
            c.tenant == route.tenant
                && c.is_live()
                && c.direction == Direction::Inbound
                && c.caller().filter(same).is_some()
        })?;
        Some((call.id.clone(), call.caller()?.id.clone()))
    }

    /// What a dialled text leads to now, or the cause for not dialling it.
    fn target(&self, wish: &Wish, now: Now) -> Result<Target, (HangupCause, String)> {
        let dialled = wish.dialled.trim();
        let short = dialled.len() <= LONGEST_EXTENSION && !dialled.starts_with(['+', '0']);
        if dialled.is_empty() || dialled.len() > LONGEST_DIALLED {
            return Err((HangupCause::NotFound, "a number or an extension is needed".to_owned()));
        }
        if self.desk.policy.dial.is_emergency(dialled) {
            let digits = dialled.chars().filter(char::is_ascii_digit).collect();
            return self.carrier(&wish.tenant, true).map(|()| Target::Telephone(Destination::Emergency(digits)));
        }
        self.room_for_call()?;
        let mine = self.calls.values().filter(|c| c.tenant == wish.tenant && c.is_live());
        let mine = mine.filter(|c| c.legs.iter().any(|l| l.user() == Some(&wish.caller.id))).count();
        if mine >= self.desk.policy.max_calls_per_user {
            return Err((HangupCause::LimitReached, format!("a user can have {mine} calls at the same time")));
        }
        match &wish.callee {
            _ if dialled == ECHO_NUMBER => Ok(Target::Echo),
            Some(user) if user.id == wish.caller.id => {
                Err((HangupCause::Busy, "this is your own extension".to_owned()))
            }
            Some(user) => {
                self.free_to_ring(&wish.tenant, user)?;
                Ok(Target::User(user.clone()))
            }
            None if short => Err((HangupCause::NotFound, "no such extension".to_owned())),
            None => {
                let usage = self.usage_of(&wish.tenant, now);
                let checked = self.desk.policy.dial.check(dialled, &self.desk.policy.numbering, usage);
                let to = checked.map_err(|refusal| (refusal_cause(&refusal), refusal.to_string()))?;
                self.carrier(&wish.tenant, false)?;
                Ok(Target::Telephone(to))
            }
        }
    }

    fn carrier(&self, tenant: &TenantId, emergency: bool) -> Result<(), (HangupCause, String)> {
        let found = self.desk.nodes.carrier(&self.desk.policy, tenant, emergency);
        found.map(|_| ()).map_err(|none| match (none, emergency) {
            (NoCarrier::NoTrunk, true) => (
                HangupCause::NoEmergencyTrunk,
                "emergency numbers cannot be called from here: no trunk is marked for them".to_owned(),
            ),
            (NoCarrier::NoTrunk, false) => (
                HangupCause::CarrierUnavailable,
                "telephone numbers cannot be called: no [[trunk]] is configured".to_owned(),
            ),
            (NoCarrier::Down, _) => (HangupCause::CarrierUnavailable, "no trunk is up".to_owned()),
        })
    }

    /// A full one takes an emergency call when there is no other.
    fn media_server(&self, emergency: bool) -> Result<NodeId, (HangupCause, String)> {
        let nodes = &self.desk.nodes;
        let spare = || if emergency { nodes.least_loaded_of_all(DaemonKind::Sfu) } else { None };
        let sfu = nodes.least_loaded(DaemonKind::Sfu, &[]).or_else(spare).map(|n| n.node.clone());
        sfu.ok_or((HangupCause::InternalError, "no media server (SFU) is ready".to_owned()))
    }

    fn room_for_call(&self) -> Result<(), (HangupCause, String)> {
        let live = self.calls.values().filter(|c| c.is_live()).count();
        if live >= self.desk.policy.max_calls {
            return Err((HangupCause::LimitReached, format!("{live} calls are running, more are not allowed")));
        }
        Ok(())
    }

    fn free_to_ring(&self, tenant: &TenantId, user: &User) -> Result<(), (HangupCause, String)> {
        if !self.sessions.is_online(tenant, &user.id) {
            return Err((HangupCause::Offline, format!("{} has no page open", user.name)));
        }
        let in_call =
            |c: &Call| c.tenant == *tenant && c.legs.iter().any(|l| l.is_live() && l.user() == Some(&user.id));
        if self.calls.values().any(|c| c.is_live() && in_call(c)) {
            return Err((HangupCause::Busy, format!("{} is in another call", user.name)));
        }
        Ok(())
    }

    pub(crate) fn usage_of(&self, tenant: &TenantId, now: Now) -> DialUsage {
        let outbound =
            self.calls.values().filter(|c| c.tenant == *tenant && c.is_live() && c.direction == Direction::Outbound);
        let concurrent_calls = u32::try_from(outbound.count()).unwrap_or(u32::MAX);
        self.usage.of(tenant, now, concurrent_calls)
    }

    fn count_outbound(&mut self, now: Now, call: &Call) {
        if call.direction == Direction::Outbound {
            self.usage.dialled(&call.tenant, now);
        }
    }

    fn new_call(&mut self, now: Now, tenant: &TenantId, direction: Direction, recording_mode: RecordingMode) -> Call {
        Call {
            id: self.desk.ids.call(now.wall),
            tenant: tenant.clone(),
            direction,
            state: CallState::New,
            legs: Vec::with_capacity(2),
            room: Room::None,
            room_missed: 0,
            recording: None,
            recording_mode,
            started: now.wall,
            afterwards: None,
            in_flight: 0,
            told: Told::default(),
        }
    }

    /// Leaves an ended call in the log and tells the caller why.
    fn refuse_call(&mut self, now: Now, tag: Tag, wish: &Wish, cause: HangupCause, message: String) {
        let emergency = self.desk.policy.dial.is_emergency(&wish.dialled);
        let direction = match (&wish.callee, wish.dialled.trim()) {
            (_, ECHO_NUMBER) => Direction::Echo,
            (Some(_), _) if !emergency => Direction::Internal,
            _ => Direction::Outbound,
        };
        let mut call = self.new_call(now, &wish.tenant, direction, RecordingMode::Off);
        let leg = self.desk.ids.leg(now.wall);
        call.legs.push(browser_leg(leg, wish.caller.clone(), Owner::Nobody, LegState::Early, now));
        let leg = self.desk.ids.leg(now.wall);
        let callee = match (&wish.callee, direction) {
            (Some(user), Direction::Internal) => browser_leg(leg, user.clone(), Owner::Nobody, LegState::Ringing, now),
            (_, Direction::Echo) => Leg::new(leg, echo_party(), LegState::Ringing, now.wall),
            _ => Leg::new(leg, unreached(&wish.dialled), LegState::Ringing, now.wall),
        };
        call.legs.push(callee);
        end_call(&mut call, &mut self.desk, now, &End::system(cause));
        crate::audience::write_rows(&mut call, &mut self.desk);
        self.desk.refuse(tag, CommandError::cause(cause, message));
    }

    fn reply_call(&mut self, tag: Tag, call: &mut Call, leg: &LegId, page: Option<&SessionId>) {
        let Some(view) = call.view(leg) else { return };
        if let Some(page) = page {
            call.told.views.insert(page.clone(), view.clone());
        }
        let reply = CommandReply::Call { call: call.id.clone(), leg: Some(leg.clone()), view: Box::new(view) };
        self.desk.reply(tag, Ok(reply));
    }
}

/// The callee of a refused attempt is kept as it was typed.
fn unreached(dialled: &str) -> Party {
    let text: String = dialled.trim().chars().filter(|c| !c.is_control()).take(LONGEST_DIALLED).collect();
    Party::Application { name: text.clone(), number: text }
}

fn outbound(carrier: crate::place::Carrier, to: Destination) -> Party {
    Party::Telephone(Telephone {
        gateway: carrier.gateway,
        trunk: carrier.trunk,
        number: Some(to),
        name: None,
        sip_call_id: None,
        media: TelephoneMedia::Waiting,
    })
}

fn browser_leg(id: LegId, user: User, owner: Owner, state: LegState, now: Now) -> Leg {
    Leg::new(id, Party::Browser(Browser { user, owner, media: PeerMedia::None, joining: None }), state, now.wall)
}

pub(crate) fn ring_telephone(call: &mut Call, desk: &mut Desk, gateway: NodeId, leg: LegId, attempt: u8) {
    let body = NodeRequest::RingTelephone(RingTelephone { leg: leg.clone() });
    desk.request(call, gateway, body, crate::desk::Step::Ring { leg, attempt });
}

const fn refusal_cause(refusal: &DialRefusal) -> HangupCause {
    match refusal {
        DialRefusal::Number(_) => HangupCause::NotFound,
        DialRefusal::NotAllowed(_) | DialRefusal::Denied(_) => HangupCause::NotAllowed,
        DialRefusal::Concurrent { .. } | DialRefusal::Rate { .. } | DialRefusal::Minutes { .. } => {
            HangupCause::LimitReached
        }
    }
}
