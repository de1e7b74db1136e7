//! The pages: which are connected, and what their coming and going means for legs.
use crate::board::Switchboard;
use crate::call::Call;
use crate::ending::End;
use crate::ids::{Now, SessionId, UserId};
use crate::leg::Owner;
use crate::timers::TimerKey;
use crate::view::CallView;
use offhook_contract::{CallId, HangupCause, LegId, TenantId};
use std::collections::{BTreeMap, HashMap};

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    all: HashMap<SessionId, Page>,
    by_user: HashMap<(TenantId, UserId), BTreeMap<SessionId, ()>>,
}

#[derive(Debug)]
struct Page {
    tenant: TenantId,
    user: UserId,
    attached: bool,
}

impl Sessions {
    pub fn of_user(&self, tenant: &TenantId, user: &UserId) -> Vec<SessionId> {
        let key = (tenant.clone(), user.clone());
        self.by_user.get(&key).map(|pages| pages.keys().cloned().collect()).unwrap_or_default()
    }
    /// Whether a page of the user has its WebSocket up.
    pub fn is_online(&self, tenant: &TenantId, user: &UserId) -> bool {
        self.of_user(tenant, user).iter().any(|s| self.is_attached(s))
    }
    pub fn is_attached(&self, session: &SessionId) -> bool {
        self.all.get(session).is_some_and(|p| p.attached)
    }
    pub fn len(&self) -> usize {
        self.all.len()
    }

    fn open(&mut self, session: SessionId, tenant: TenantId, user: UserId) {
        self.by_user.entry((tenant.clone(), user.clone())).or_default().insert(session.clone(), ());
        self.all.insert(session, Page { tenant, user, attached: true });
    }
    fn attach(&mut self, session: &SessionId, attached: bool) {
        if let Some(page) = self.all.get_mut(session) {
            page.attached = attached;
        }
    }
    fn close(&mut self, session: &SessionId) {
        let Some(page) = self.all.remove(session) else { return };
        let key = (page.tenant, page.user);
        if let Some(pages) = self.by_user.get_mut(&key) {
            pages.remove(session);
            if pages.is_empty() {
                self.by_user.remove(&key);
            }
        }
    }
}

impl Switchboard {
    pub(crate) fn session_opened(
        &mut self,
        now: Now,
        tenant: TenantId,
        user: UserId,
        session: SessionId,
        former: Option<SessionId>,
    ) {
        self.sessions.open(session.clone(), tenant.clone(), user.clone());
        let Some(former) = former else { return };
        for (call, leg) in self.legs_of_user(&tenant, &user) {
            self.with_browser(&call, &leg, |owner| {
                if owner.session() == Some(&former) {
                    *owner = Owner::Page(session.clone());
                }
            });
            self.page_is_back(now, &call, &leg);
        }
    }

    pub(crate) fn session_attached(&mut self, now: Now, session: &SessionId) {
        self.sessions.attach(session, true);
        for (call, leg) in self.legs_of_session(session) {
            self.with_browser(&call, &leg, |owner| *owner = Owner::Page(session.clone()));
            self.page_is_back(now, &call, &leg);
        }
    }

    pub(crate) fn session_detached(&mut self, now: Now, session: &SessionId) {
        self.sessions.attach(session, false);
        self.lose_legs(now, session);
    }

    pub(crate) fn session_closed(&mut self, now: Now, session: &SessionId) {
        self.sessions.close(session);
        self.lose_legs(now, session);
        for call in self.calls.values_mut() {
            call.told.views.remove(session);
        }
    }

    fn lose_legs(&mut self, now: Now, session: &SessionId) {
        for (call, leg) in self.legs_of_session(session) {
            self.with_browser(&call, &leg, |owner| {
                if matches!(owner, Owner::Page(_)) {
                    *owner = Owner::Lost(session.clone());
                }
            });
            let key = TimerKey::PageGone(call, leg);
            if !self.desk.timers.is_set(&key) {
                self.desk.timers.set(key, now.at + self.desk.policy.page_grace);
            }
        }
    }

    fn page_is_back(&mut self, _now: Now, call: &CallId, leg: &LegId) {
        let back = self.calls.get(call).and_then(|c| c.leg(leg)).and_then(|l| l.browser());
        if back.is_some_and(|b| matches!(b.owner, Owner::Page(_))) {
            self.desk.timers.clear(&TimerKey::PageGone(call.clone(), leg.clone()));
        }
    }

    pub(crate) fn page_gone_for_good(&mut self, now: Now, call: &CallId, leg: &LegId) {
        let lost = |c: &Call| {
            c.leg(leg).is_some_and(|l| l.is_live() && l.browser().is_some_and(|b| matches!(b.owner, Owner::Lost(_))))
        };
        if self.calls.get(call).is_some_and(lost) {
            self.end_call(now, call, End::by(leg, HangupCause::ClientGone));
        }
    }

    /// What a page is shown when it says hello. A call whose page is lost is shown to the page that had it, or to one
    /// that is `fresh` (it had no session before: a reload without memory); other pages of the user are left alone.
    pub fn calls_for(&mut self, session: &SessionId, fresh: bool) -> Vec<CallView> {
        let Some(page) = self.sessions.all.get(session) else { return Vec::new() };
        let (tenant, user) = (page.tenant.clone(), page.user.clone());
        let mut views = Vec::new();
        for call in self.calls.values_mut().filter(|c| c.tenant == tenant && c.is_live()) {
            let leg = call.legs.iter().find(|l| l.is_live() && l.user() == Some(&user));
            let Some((leg, owner)) = leg.and_then(|l| Some((&l.id, &l.browser()?.owner))) else { continue };
            let shown = match owner {
                Owner::Nobody => true,
                Owner::Page(page) => page == session,
                Owner::Lost(page) => page == session || fresh,
            };
            let mine = !matches!(owner, Owner::Lost(_));
            if let Some(view) = shown.then(|| call.view(leg)).flatten() {
                if mine {
                    call.told.views.insert(session.clone(), view.clone());
                }
                views.push(view);
            }
        }
        views
    }

    fn legs_of_user(&self, tenant: &TenantId, user: &UserId) -> Vec<(CallId, LegId)> {
        let mine = self.calls.values().filter(|c| c.tenant == *tenant && c.is_live());
        mine.flat_map(|c| c.legs.iter().filter(|l| l.user() == Some(user)).map(|l| (c.id.clone(), l.id.clone())))
            .collect()
    }

    fn legs_of_session(&self, session: &SessionId) -> Vec<(CallId, LegId)> {
        let live = self.calls.values().filter(|c| c.is_live());
        live.flat_map(|c| {
            let owned = c
                .legs
                .iter()
                .filter(|l| l.is_live() && l.browser().is_some_and(|b| b.owner.session() == Some(session)));
            owned.map(|l| (c.id.clone(), l.id.clone()))
        })
        .collect()
    }

    fn with_browser(&mut self, call: &CallId, leg: &LegId, change: impl FnOnce(&mut Owner)) {
        let Some(found) = self.calls.get_mut(call) else { return };
        if let Some(browser) = found.leg_mut(leg).and_then(|l| l.browser_mut()) {
            change(&mut browser.owner);
            self.desk.touched.insert(call.clone());
        }
    }
}
