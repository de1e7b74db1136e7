//! After our own death: the calls that had not ended, as the database knows them. They are taken as alive until a
//! node that should carry them says otherwise; pages have their grace time to come back.
use crate::board::Switchboard;
use crate::call::{Call, CallState, ECHO_NAME, ECHO_NUMBER, Room, Told};
use crate::ending::{End, end_call};
use crate::ids::Now;
use crate::input::User;
use crate::leg::{Browser, Leg, LegState, Owner, Party, PeerMedia, Telephone, TelephoneMedia, destination_from};
use crate::recording::{self, Phase, Recording};
use crate::rows::{CallRow, LegRow, StoredCall};
use crate::timers::TimerKey;
use crate::view::{CallWord, LegWord, PartyKind, RecordingTrouble, RecordingWord};
use offhook_contract::{HangupCause, TenantId};
use std::time::Duration;

impl Switchboard {
    /// Takes over the calls of our former life. `minutes` are what each tenant has talked today.
    pub fn restore(&mut self, now: Now, calls: Vec<StoredCall>, minutes: Vec<(TenantId, u32)>) {
        for (tenant, minutes) in minutes {
            self.usage.talked(&tenant, now, minutes);
        }
        for stored in calls {
            let mut call = call_from(&stored, now);
            let recorder = stored.recording.as_ref().and_then(|(_, _, recorder)| recorder.clone());
            recording::restored(&mut call, &mut self.desk, now, recorder);
            if is_whole(&call) {
                self.watch(now, &call);
            } else {
                end_call(&mut call, &mut self.desk, now, &End::system(HangupCause::NodeLost));
            }
            self.take(call);
        }
        self.settle(now);
    }

    fn watch(&mut self, now: Now, call: &Call) {
        let desk = &mut self.desk;
        for leg in call.legs.iter().filter(|l| l.browser().is_some_and(|b| matches!(b.owner, Owner::Lost(_)))) {
            desk.timers.set(TimerKey::PageGone(call.id.clone(), leg.id.clone()), now.at + desk.policy.page_grace);
        }
        match call.state {
            CallState::Active { answered, .. } => {
                let talked = Duration::from_millis(now.wall.since(answered));
                if let Some(longest) = call.longest(&desk.policy.dial) {
                    desk.timers.set(TimerKey::MaxDuration(call.id.clone()), now.at + longest.saturating_sub(talked));
                }
            }
            _ => desk.timers.set(TimerKey::Ring(call.id.clone()), now.at + desk.policy.ring_timeout),
        }
    }
}

/// Enough of the call stood in the database to go on with it.
fn is_whole(call: &Call) -> bool {
    let browsers_have_room = call.open_sfu().is_some() || !call.is_active();
    call.legs.len() >= 2 && browsers_have_room && call.state != CallState::New
}

fn told(stored: &StoredCall) -> Told {
    Told {
        row: Some(stored.call.clone()),
        legs: stored.legs.iter().map(|l| (l.id.clone(), l.clone())).collect(),
        ..Told::default()
    }
}

fn call_from(stored: &StoredCall, now: Now) -> Call {
    let row = &stored.call;
    let room = match &row.sfu {
        Some(sfu) => Room::Open { sfu: sfu.clone(), since: Duration::ZERO },
        None => Room::None,
    };
    Call {
        id: row.id.clone(),
        tenant: row.tenant.clone(),
        direction: row.direction,
        state: state_from(row, now),
        legs: stored.legs.iter().map(|leg| leg_from(leg, row)).collect(),
        room,
        room_missed: 0,
        recording: recording_from(stored),
        recording_mode: row.recording_mode,
        started: row.started,
        afterwards: None,
        in_flight: 0,
        told: told(stored),
    }
}

fn state_from(row: &CallRow, now: Now) -> CallState {
    match (row.state, row.answered) {
        (CallWord::Active, answered) => {
            let answered = answered.unwrap_or(row.started);
            let since = now.at.saturating_sub(Duration::from_millis(now.wall.since(answered)));
            CallState::Active { answered, since }
        }
        (CallWord::Early, _) => CallState::Early,
        (CallWord::New, _) => CallState::New,
        _ => CallState::Ringing,
    }
}

fn recording_from(stored: &StoredCall) -> Option<Recording> {
    let (id, word, recorder) = stored.recording.clone()?;
    let phase = match (word, recorder) {
        (RecordingWord::Recording, Some(recorder)) => Phase::Recording { recorder },
        (RecordingWord::Starting, Some(recorder)) => Phase::Starting { recorder },
        (RecordingWord::Stopping, _) => Phase::Stopping,
        (RecordingWord::Stopped, _) => Phase::Stopped,
        // Nobody was asked: there is nothing to go on with.
        (RecordingWord::Starting | RecordingWord::Recording, None) => Phase::Waiting,
        (RecordingWord::Failed, _) => Phase::Failed { reason: RecordingTrouble::Restarted.into() },
    };
    Some(Recording::new(id, phase, stored.call.answered))
}

fn leg_from(row: &LegRow, call: &CallRow) -> Leg {
    let ringing = row.state == LegWord::Ringing;
    let party = match row.kind {
        PartyKind::Browser => Party::Browser(Browser {
            user: User {
                id: row.user.clone().unwrap_or_else(|| crate::ids::UserId::new("")),
                name: row.name.clone(),
                extension: row.number.clone().unwrap_or_default(),
            },
            owner: match &row.session {
                Some(session) if !ringing => Owner::Lost(session.clone()),
                _ => Owner::Nobody,
            },
            media: if ringing { PeerMedia::None } else { PeerMedia::Joined { at: row.started } },
            joining: None,
        }),
        PartyKind::Application => Party::Application {
            name: if row.name.is_empty() { ECHO_NAME.to_owned() } else { row.name.clone() },
            number: row.number.clone().unwrap_or_else(|| ECHO_NUMBER.to_owned()),
        },
        PartyKind::Telephone => telephone_from(row, call),
    };
    let state = match (row.state, &row.held_by) {
        (LegWord::Ringing, _) => LegState::Ringing,
        (LegWord::Early, _) => LegState::Early,
        (LegWord::Held, Some(by)) => LegState::Held { by: by.clone() },
        (LegWord::Ended, _) => {
            LegState::Ended { at: row.ended.unwrap_or(row.started), cause: row.cause.unwrap_or(HangupCause::Normal) }
        }
        _ => LegState::Talking,
    };
    let mut leg = Leg::new(row.id.clone(), party, state, row.started);
    (leg.muted, leg.answered) = (row.muted, row.answered);
    leg
}

fn telephone_from(row: &LegRow, call: &CallRow) -> Party {
    let (Some(gateway), Some(trunk)) = (row.node.clone(), row.trunk.clone()) else {
        let number = row.number.clone().unwrap_or_default();
        return Party::Application { name: row.name.clone(), number };
    };
    // Whether the two halves of its Link were joined is the SFU's to say: the gateway's answer died with us.
    let media = match (row.position, call.answered) {
        (0, None) => TelephoneMedia::Offered,
        _ => TelephoneMedia::Connecting,
    };
    let name = Some(row.name.clone()).filter(|n| !n.is_empty() && Some(n) != row.number.as_ref());
    Party::Telephone(Telephone {
        gateway,
        trunk,
        number: row.number.as_deref().map(destination_from),
        name,
        sip_call_id: row.sip_call_id.clone(),
        media,
    })
}
