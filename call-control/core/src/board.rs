//! The switchboard: all calls, pages and nodes of one call-control, fed with inputs and asked for outputs.
use crate::audience::tell;
use crate::call::Call;
use crate::desk::{Desk, Strikes};
use crate::ending::{End, billed_minutes};
use crate::ids::{IdMaker, Now};
use crate::input::Input;
use crate::leg::LegState;
use crate::output::Output;
use crate::policy::Policy;
use crate::recording;
use crate::sessions::Sessions;
use crate::timers::TimerKey;
use crate::usage::Usage;
use crate::view::CallView;
use offhook_contract::{CallId, HangupCause, LegId, TenantId};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug)]
pub struct Switchboard {
    pub(crate) desk: Desk,
    pub(crate) calls: BTreeMap<CallId, Call>,
    pub(crate) sessions: Sessions,
    pub(crate) usage: Usage,
    pub(crate) strikes: Strikes,
}

/// What is held now. All return to zero when everybody has hung up and left, but for one timer (the sweep).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    pub calls: usize,
    pub legs: usize,
    pub sessions: usize,
    pub timers: usize,
    pub requests: usize,
    pub strikes: usize,
}

impl Switchboard {
    pub fn new(policy: Policy, ids: IdMaker, now: Now) -> Self {
        let mut desk = Desk::new(policy, ids, now);
        desk.timers.set(TimerKey::Sweep, now.at + desk.policy.sweep_period);
        Self {
            desk,
            calls: BTreeMap::new(),
            sessions: Sessions::default(),
            usage: Usage::default(),
            strikes: Strikes::default(),
        }
    }

    pub fn handle_input(&mut self, now: Now, input: Input) {
        match input {
            Input::SessionOpened { tenant, user, session, former } => {
                self.session_opened(now, tenant, user, session, former);
            }
            Input::SessionAttached { session } => self.session_attached(now, &session),
            Input::SessionDetached { session } => self.session_detached(now, &session),
            Input::SessionClosed { session } => self.session_closed(now, &session),
            Input::Command { tag, actor, command } => self.command(now, tag, actor, command),
            Input::Incoming { tag, route, callee, recording } => self.incoming(now, tag, route, callee, recording),
            Input::Event { context, event } => self.event(now, &context, event),
            Input::Fact(record) => self.fact(now, record),
            Input::Reply { request, result } => self.reply(now, request, result),
            Input::Nodes(rows) => self.nodes_changed(now, rows),
        }
        self.settle(now);
    }

    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(key) = self.desk.timers.pop_due(now.at) {
            self.timer(now, key);
        }
        self.settle(now);
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.desk.out.pop_front()
    }

    /// When [`Switchboard::handle_timeout`] is due next, on the clock of [`Now::at`].
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.desk.timers.next()
    }

    pub fn gauges(&self) -> Gauges {
        let live = self.calls.values().filter(|c| c.is_live());
        Gauges {
            calls: live.clone().count(),
            legs: live.map(|c| c.legs.iter().filter(|l| l.is_live()).count()).sum(),
            sessions: self.sessions.len(),
            timers: self.desk.timers.len(),
            requests: self.desk.pending.len(),
            strikes: self.strikes.len(),
        }
    }

    pub fn policy(&self) -> &Policy {
        &self.desk.policy
    }
    /// Takes new limits, rules and trunks; running calls keep what they were given.
    pub fn set_policy(&mut self, policy: Policy) {
        self.desk.policy = policy;
    }

    /// A running call as its caller sees it.
    pub fn live_call(&self, tenant: &TenantId, id: &CallId) -> Option<CallView> {
        let call = self.calls.get(id).filter(|c| c.tenant == *tenant && c.is_live())?;
        call.view(&call.caller()?.id)
    }

    /// Ends every call: the process is about to go for good.
    pub fn end_all(&mut self, now: Now, cause: HangupCause) {
        let live: Vec<CallId> = self.calls.values().filter(|c| c.is_live()).map(|c| c.id.clone()).collect();
        for id in live {
            self.end_call(now, &id, End::system(cause));
        }
        self.settle(now);
    }

    fn timer(&mut self, now: Now, key: TimerKey) {
        match key {
            TimerKey::Ring(call) => self.nobody_answered(now, &call),
            TimerKey::PageGone(call, leg) => self.page_gone_for_good(now, &call, &leg),
            TimerKey::MediaDue(call, leg) => self.media_overdue(now, &call, &leg),
            TimerKey::MaxDuration(call) => self.end_call(now, &call, End::system(HangupCause::LimitReached)),
            TimerKey::RecordingDue(id) => {
                if let Some(call) = self.calls.get_mut(&id) {
                    recording::advance(call, &mut self.desk, now, true);
                    self.desk.touched.insert(id);
                }
            }
            TimerKey::RecorderDue(id) => {
                if let Some(call) = self.calls.get_mut(&id) {
                    recording::recorder_due(call, &mut self.desk, now);
                    self.desk.touched.insert(id);
                }
            }
            TimerKey::Retry(request) => self.desk.retry_now(request),
            TimerKey::Sweep => {
                self.sweep(now);
                self.desk.timers.set(TimerKey::Sweep, now.at + self.desk.policy.sweep_period);
            }
        }
    }

    fn nobody_answered(&mut self, now: Now, id: &CallId) {
        let Some(call) = self.calls.get(id).filter(|c| c.is_live() && !c.is_active()) else { return };
        let callee = call.legs.iter().find(|l| matches!(l.state, LegState::Ringing)).map(|l| l.id.clone());
        self.end_call(now, id, End { cause: HangupCause::NoAnswer, by: callee, released: false, at: None });
    }

    /// The browser has not joined, or its transport has not come up. A page in its grace time is waited for.
    fn media_overdue(&mut self, now: Now, id: &CallId, leg: &LegId) {
        let Some(found) = self.calls.get(id).and_then(|c| c.leg(leg)) else { return };
        if found.is_live() && !found.has_media() {
            self.end_call(now, id, End::by(leg, HangupCause::MediaLost));
        }
    }

    /// Puts a new or changed call among the others.
    pub(crate) fn take(&mut self, call: Call) {
        self.desk.touched.insert(call.id.clone());
        self.calls.insert(call.id.clone(), call);
    }

    /// Tells what the input changed, and forgets calls that are over and done with.
    pub(crate) fn settle(&mut self, now: Now) {
        while let Some(id) = self.desk.touched.pop_first() {
            let Some(call) = self.calls.get_mut(&id) else { continue };
            let ended_now = !call.is_live() && call.told.row.as_ref().is_none_or(|r| r.ended.is_none());
            tell(call, &mut self.desk, &self.sessions);
            if ended_now {
                self.usage.talked(&call.tenant, now, billed_minutes(call));
            }
            if !call.is_live() && call.in_flight == 0 {
                self.calls.remove(&id);
            }
        }
    }
}
