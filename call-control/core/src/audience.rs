//! After each input: what changed for the database and for the pages.
use crate::call::{Call, CallState};
use crate::desk::Desk;
use crate::ids::SessionId;
use crate::leg::Owner;
use crate::output::{ClientEvent, Output};
use crate::rows::Write;
use crate::sessions::Sessions;
use crate::view::{CallView, CallWord, CauseSide, LegWord};
use offhook_contract::{HangupCause, LegId};

/// The pages that see the call now, each with its own leg.
fn audience(call: &Call, sessions: &Sessions) -> Vec<(SessionId, LegId)> {
    let mut pages = Vec::new();
    for leg in call.legs.iter().filter(|l| l.is_live() || !call.is_live()) {
        let Some(browser) = leg.browser() else { continue };
        match &browser.owner {
            Owner::Page(session) | Owner::Lost(session) => pages.push((session.clone(), leg.id.clone())),
            Owner::Nobody => {
                let all = sessions.of_user(&call.tenant, &browser.user.id);
                pages.extend(all.into_iter().map(|session| (session, leg.id.clone())));
            }
        }
    }
    pages
}

/// Has the rows written that changed since they were written last.
pub(crate) fn write_rows(call: &mut Call, desk: &mut Desk) {
    let row = call.row();
    if call.told.row.as_ref() != Some(&row) {
        desk.write(Write::Call(Box::new(row.clone())));
        call.told.row = Some(row);
    }
    let rows: Vec<_> = call.leg_rows().collect();
    for row in rows {
        if call.told.legs.get(&row.id) != Some(&row) {
            desk.write(Write::Leg(Box::new(row.clone())));
            call.told.legs.insert(row.id.clone(), row);
        }
    }
}

/// Tells the database and the pages what changed since they were told last.
pub(crate) fn tell(call: &mut Call, desk: &mut Desk, sessions: &Sessions) {
    write_rows(call, desk);
    let pages = audience(call, sessions);
    for (session, leg) in &pages {
        let Some(view) = call.view(leg) else { continue };
        let told = call.told.views.get(session);
        if told.is_some_and(|t| *t == view || t.state == CallWord::Ended) {
            continue;
        }
        let ended = matches!(call.state, CallState::Ended { .. });
        let event = if ended {
            ClientEvent::CallEnded(Box::new(view.clone()))
        } else {
            ClientEvent::CallUpdated(Box::new(view.clone()))
        };
        desk.out.push_back(Output::Notify { session: session.clone(), event });
        call.told.views.insert(session.clone(), view);
    }
    dismiss_others(call, desk, &pages);
}

/// The pages on which it rang and that did not take the call: for them it is over.
fn dismiss_others(call: &mut Call, desk: &mut Desk, pages: &[(SessionId, LegId)]) {
    let gone: Vec<SessionId> =
        call.told.views.keys().filter(|s| !pages.iter().any(|(page, _)| page == *s)).cloned().collect();
    for session in gone {
        let Some(view) = call.told.views.remove(&session) else { continue };
        if view.state == CallWord::Ended {
            continue;
        }
        let event = ClientEvent::CallEnded(Box::new(taken_elsewhere(view, call)));
        desk.out.push_back(Output::Notify { session, event });
    }
}

fn taken_elsewhere(mut view: CallView, call: &Call) -> CallView {
    view.state = CallWord::Ended;
    view.cause = Some(HangupCause::Normal);
    view.cause_side = Some(CauseSide::Me);
    view.answered_ms = call.answered();
    view.ended_ms = call.answered().or(Some(call.started));
    view.my_leg.state = LegWord::Ended;
    view.can_record = false;
    view
}
