//! Commands of users on calls that exist.
use crate::board::Switchboard;
use crate::call::{Call, CallState, Room};
use crate::desk::{Desk, Step};
use crate::dial::Wish;
use crate::ending::{End, end_call};
use crate::ids::{Now, SessionId, Tag};
use crate::input::{Actor, Command};
use crate::leg::{Leg, LegState, Owner, TelephoneMedia};
use crate::media::{activate, join, open_room};
use crate::output::{ClientEvent, CommandError, CommandReply, NodeRequest, Output, RefusalCode};
use crate::policy::RecordingMode;
use crate::recording;
use crate::timers::TimerKey;
use crate::view::Direction;
use offhook_contract::gateway::{HoldTelephone, SendDigits};
use offhook_contract::sfu::{HoldLeg, MuteLeg};
use offhook_contract::{CallId, DaemonKind, HangupCause, LegId};

const MAX_DIGITS: usize = 32;
const DIGIT_MS: u16 = 160;

type Refusal = CommandError;

fn conflict(message: &str) -> Refusal {
    CommandError::new(RefusalCode::Conflict, message)
}

impl Switchboard {
    pub(crate) fn command(&mut self, now: Now, tag: Tag, actor: Actor, command: Command) {
        let result = match command {
            Command::Dial { dialled, callee, recording } => {
                let Some(caller) = actor.user.clone() else {
                    return self.desk.refuse(tag, CommandError::new(RefusalCode::Invalid, "a user is needed to dial"));
                };
                let wish = Wish { tenant: actor.tenant.clone(), caller, dialled, callee, recording };
                return self.dial(now, tag, &actor, wish);
            }
            Command::Originate { caller, dialled, callee, recording } => {
                let wish = Wish { tenant: actor.tenant.clone(), caller, dialled, callee, recording };
                return self.originate(now, tag, wish);
            }
            Command::Answer { call } => self.answer(now, tag, &actor, &call),
            Command::Join { call, offer_sdp } => self.join(now, tag, &actor, &call, offer_sdp),
            Command::Reject { call } => self.hang_up(now, tag, &actor, &call, HangupCause::Rejected),
            Command::HangUp { call } => self.hang_up(now, tag, &actor, &call, HangupCause::Normal),
            Command::Mute { call, muted } => self.mute(tag, &actor, &call, muted),
            Command::Hold { call, held } => self.hold(tag, &actor, &call, held),
            Command::Digits { call, digits } => self.digits(tag, &actor, &call, digits),
            Command::Record { call, on } => self.record(now, tag, &actor, &call, on),
        };
        if let Err(refusal) = result {
            self.desk.refuse(tag, refusal);
        }
    }

    /// The call, if the giver is in it: another tenant's or another user's is as unknown as none at all.
    fn mine(&mut self, actor: &Actor, id: &CallId) -> Result<(&mut Call, &mut Desk, Option<LegId>), Refusal> {
        let unknown = || CommandError::new(RefusalCode::NotFound, "no such call");
        let call = self.calls.get_mut(id).filter(|c| c.tenant == actor.tenant).ok_or_else(unknown)?;
        let leg = match &actor.user {
            Some(user) => Some(call.legs.iter().find(|l| l.user() == Some(&user.id)).ok_or_else(unknown)?.id.clone()),
            None => None,
        };
        self.desk.touched.insert(id.clone());
        Ok((call, &mut self.desk, leg))
    }

    /// The giver's own leg of a live call, which its page has.
    fn held_leg(&mut self, actor: &Actor, id: &CallId) -> Result<(&mut Call, &mut Desk, LegId), Refusal> {
        let (call, desk, leg) = self.mine(actor, id)?;
        let leg = leg.ok_or_else(|| CommandError::new(RefusalCode::Invalid, "a user is needed for this"))?;
        still_live(call)?;
        let owner = call.leg(&leg).and_then(Leg::browser).map(|b| &b.owner);
        match (owner, &actor.session) {
            (Some(Owner::Page(page)), Some(session)) if page != session => Err(conflict("the call is on another page")),
            (Some(Owner::Nobody), _) => Err(conflict("answer the call first")),
            _ => Ok((call, desk, leg)),
        }
    }

    fn answer(&mut self, now: Now, tag: Tag, actor: &Actor, id: &CallId) -> Result<(), Refusal> {
        let session = actor.session.clone();
        let session = session.ok_or_else(|| CommandError::new(RefusalCode::Invalid, "only a page can answer"))?;
        let sfu = self.desk.nodes.least_loaded(DaemonKind::Sfu, &[]).map(|n| n.node.clone());
        let (call, desk, leg_id) = self.mine(actor, id)?;
        still_live(call)?;
        let leg_id = leg_id.ok_or_else(|| conflict("only a user can answer"))?;
        let Some(leg) = call.leg_mut(&leg_id) else { return Err(conflict("the leg has ended")) };
        let ringing = leg.state == LegState::Ringing;
        let Some(browser) = leg.browser_mut() else { return Err(conflict("not a browser's leg")) };
        match &browser.owner {
            Owner::Nobody if ringing => browser.owner = Owner::Page(session.clone()),
            Owner::Page(page) if *page == session => return reply(call, desk, tag, &leg_id, Some(&session)),
            _ => return Err(conflict("the call was answered on another page")),
        }
        leg.state = LegState::Early;
        desk.timers.set(TimerKey::MediaDue(id.clone(), leg_id.clone()), now.at + desk.policy.media_timeout);
        if let Some(target) = call.afterwards.take() {
            desk.timers.clear(&TimerKey::Ring(id.clone()));
            self.dial_afterwards(now, id, target);
            let (call, desk, _) = self.mine(actor, id)?;
            return reply(call, desk, tag, &leg_id, Some(&session));
        }
        if matches!(call.room, Room::None) {
            let sfu = sfu.ok_or_else(|| CommandError::new(RefusalCode::Unavailable, "no media server (SFU) is ready"));
            match sfu {
                Ok(sfu) => open_room(call, desk, sfu),
                Err(refusal) => {
                    end_call(call, desk, now, &End::system(HangupCause::InternalError));
                    return Err(refusal);
                }
            }
        }
        match call.telephone_mut().and_then(Leg::telephone_mut) {
            Some(telephone) => {
                telephone.media = TelephoneMedia::Opening;
                desk.timers.clear(&TimerKey::Ring(id.clone()));
            }
            None => activate(call, desk, now, now.wall),
        }
        reply(call, desk, tag, &leg_id, Some(&session))
    }

    fn join(&mut self, now: Now, tag: Tag, actor: &Actor, id: &CallId, offer_sdp: String) -> Result<(), Refusal> {
        let session = actor.session.clone();
        let session = session.ok_or_else(|| CommandError::new(RefusalCode::Invalid, "only a page can join"))?;
        let (call, desk, leg) = self.held_leg(actor, id)?;
        let Some(browser) = call.leg_mut(&leg).and_then(Leg::browser_mut) else {
            return Err(conflict("the leg has ended"));
        };
        if matches!(browser.owner, Owner::Lost(_)) {
            browser.owner = Owner::Page(session);
            desk.timers.clear(&TimerKey::PageGone(id.clone(), leg.clone()));
        }
        desk.timers.set(TimerKey::MediaDue(id.clone(), leg.clone()), now.at + desk.policy.media_timeout);
        join(call, desk, tag, leg, offer_sdp);
        Ok(())
    }

    fn hang_up(&mut self, now: Now, tag: Tag, actor: &Actor, id: &CallId, wish: HangupCause) -> Result<(), Refusal> {
        let (call, desk, leg) = self.mine(actor, id)?;
        if call.is_live() {
            let ringing = leg.as_ref().and_then(|l| call.leg(l)).is_some_and(|l| l.state == LegState::Ringing);
            let cause = match call.is_active() {
                true => HangupCause::Normal,
                false if ringing || wish == HangupCause::Rejected => HangupCause::Rejected,
                false => HangupCause::Cancelled,
            };
            end_call(call, desk, now, &End { cause, by: leg.clone(), released: false, at: None });
        }
        let shown =
            leg.or_else(|| call.caller().map(|l| l.id.clone())).ok_or_else(|| conflict("the call has no legs"))?;
        reply(call, desk, tag, &shown, None)
    }

    fn mute(&mut self, tag: Tag, actor: &Actor, id: &CallId, muted: bool) -> Result<(), Refusal> {
        let (call, desk, leg_id) = self.held_leg(actor, id)?;
        let room = call.room_id();
        let sfu = call.open_sfu().cloned();
        let Some(leg) = call.leg_mut(&leg_id) else { return Err(conflict("the leg has ended")) };
        let joined = leg.browser().is_some_and(|b| b.media != crate::leg::PeerMedia::None);
        match sfu.filter(|_| joined && leg.muted != muted) {
            Some(sfu) => {
                let body = NodeRequest::MuteLeg(MuteLeg { room, leg: leg_id.clone(), muted });
                desk.request(call, sfu, body, Step::Mute { leg: leg_id, muted, tag: Some(tag) });
                Ok(())
            }
            None => {
                leg.muted = muted;
                reply(call, desk, tag, &leg_id, actor.session.as_ref())
            }
        }
    }

    fn hold(&mut self, tag: Tag, actor: &Actor, id: &CallId, held: bool) -> Result<(), Refusal> {
        let (call, desk, by) = self.held_leg(actor, id)?;
        if !call.is_active() {
            return Err(conflict("only an answered call can be held"));
        }
        if call.direction == Direction::Echo {
            return Err(conflict("the echo test cannot be held"));
        }
        let room = call.room_id();
        let Some(sfu) = call.open_sfu().cloned() else { return Err(conflict("the call has no media room")) };
        let wanted = |l: &Leg| match &l.state {
            LegState::Talking => held,
            LegState::Held { by: holder } => !held && *holder == by,
            _ => false,
        };
        let legs: Vec<LegId> = call.legs.iter().filter(|l| l.id != by && wanted(l)).map(|l| l.id.clone()).collect();
        if legs.is_empty() {
            return reply(call, desk, tag, &by, actor.session.as_ref());
        }
        let mut tag = Some(tag);
        for leg in legs {
            let gateway = call.leg(&leg).and_then(Leg::telephone).map(|t| t.gateway.clone());
            let (node, body) = match gateway {
                Some(gateway) => (gateway, NodeRequest::HoldTelephone(HoldTelephone { leg: leg.clone(), held })),
                None => (sfu.clone(), NodeRequest::HoldLeg(HoldLeg { room: room.clone(), leg: leg.clone(), held })),
            };
            desk.request(call, node, body, Step::Hold { leg, by: by.clone(), held, tag: tag.take() });
        }
        Ok(())
    }

    fn digits(&mut self, tag: Tag, actor: &Actor, id: &CallId, digits: String) -> Result<(), Refusal> {
        let fine = |c: char| c.is_ascii_digit() || matches!(c, '*' | '#' | 'A'..='D');
        if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.chars().all(fine) {
            return Err(CommandError::new(RefusalCode::Invalid, "digits: 1 to 32 of 0-9 * # A-D"));
        }
        let (call, desk, mine) = self.held_leg(actor, id)?;
        let telephone = call.telephone().filter(|l| l.is_live());
        if let Some((leg, gateway)) = telephone.and_then(|l| Some((l.id.clone(), l.telephone()?.gateway.clone()))) {
            let body = NodeRequest::SendDigits(SendDigits { leg, digits, duration_ms: DIGIT_MS });
            desk.request(call, gateway, body, Step::Digits { by: mine, tag });
            return Ok(());
        }
        for digit in digits.chars() {
            tell_digit(call, desk, &mine, digit);
        }
        reply(call, desk, tag, &mine, actor.session.as_ref())
    }

    fn record(&mut self, now: Now, tag: Tag, actor: &Actor, id: &CallId, on: bool) -> Result<(), Refusal> {
        let (call, desk, leg) = self.held_leg(actor, id)?;
        let running = call.recording.as_ref().is_some_and(recording::Recording::is_running);
        if on && !running {
            if call.recording_mode == RecordingMode::Off || call.direction == Direction::Echo {
                return Err(CommandError::new(RefusalCode::Refused, "recording is switched off for this call"));
            }
            if !call.is_active() {
                return Err(conflict("a recording never begins before the answer"));
            }
            recording::begin(call, desk, now);
        } else if !on && running {
            recording::stop(call, desk, now);
        }
        reply(call, desk, tag, &leg, actor.session.as_ref())
    }
}

fn still_live(call: &Call) -> Result<(), Refusal> {
    match call.state {
        CallState::Ended { cause, .. } => Err(CommandError { cause: Some(cause), ..conflict("the call has ended") }),
        _ => Ok(()),
    }
}

/// The call as the giver sees it now. What the reply shows is not told again as an event.
pub(crate) fn reply(
    call: &mut Call,
    desk: &mut Desk,
    tag: Tag,
    leg: &LegId,
    page: Option<&SessionId>,
) -> Result<(), Refusal> {
    let view = call.view(leg).ok_or_else(|| conflict("the leg has ended"))?;
    if let Some(page) = page.filter(|_| call.is_live()) {
        call.told.views.insert(page.clone(), view.clone());
    }
    let reply = CommandReply::Call { call: call.id.clone(), leg: Some(leg.clone()), view: Box::new(view) };
    desk.reply(tag, Ok(reply));
    Ok(())
}

/// A key that `from` pressed, for the pages of all others.
pub(crate) fn tell_digit(call: &Call, desk: &mut Desk, from: &LegId, digit: char) {
    for leg in call.legs.iter().filter(|l| l.id != *from && l.is_live()) {
        if let Some(Owner::Page(session) | Owner::Lost(session)) = leg.browser().map(|b| &b.owner) {
            let event = ClientEvent::Digit { call: call.id.clone(), leg: from.clone(), digit };
            desk.out.push_back(Output::Notify { session: session.clone(), event });
        }
    }
}
