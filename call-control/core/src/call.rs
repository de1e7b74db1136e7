//! A call: its state, its legs, its room, and what the database and the pages last heard of it.
use crate::ids::{SessionId, Tag};
use crate::input::User;
use crate::leg::{Leg, LegState, Party};
use crate::policy::RecordingMode;
use crate::recording::Recording;
use crate::rows::{CallRow, LegRow};
use crate::view::{CallView, CallWord, CauseSide, Direction, LegView, PartyView};
use offhook_contract::{CallId, HangupCause, LegId, NodeId, RoomId, TenantId, UnixMs};
use std::collections::HashMap;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Call {
    pub id: CallId,
    pub tenant: TenantId,
    pub direction: Direction,
    pub state: CallState,
    /// The caller first.
    pub legs: Vec<Leg>,
    pub room: Room,
    /// Consecutive looks at its SFU that did not find the room.
    pub room_missed: u8,
    pub recording: Option<Recording>,
    pub recording_mode: RecordingMode,
    pub started: UnixMs,
    /// What to dial once the caller's own page has answered.
    pub afterwards: Option<Target>,
    /// Requests and retries that have not come back; an ended call is forgotten when there are none.
    pub in_flight: u32,
    pub told: Told,
}

/// What others last heard, so that only changes are told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub row: Option<CallRow>,
    pub legs: HashMap<LegId, LegRow>,
    pub views: HashMap<SessionId, CallView>,
    /// The number of the next line of the story made by this process.
    pub events: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallState {
    New,
    Ringing,
    Early,
    /// `since` is the same moment on the monotonic clock: durations do not follow wall-clock jumps.
    Active {
        answered: UnixMs,
        since: Duration,
    },
    Ended {
        answered: Option<UnixMs>,
        at: UnixMs,
        cause: HangupCause,
        by: Option<LegId>,
    },
}

#[derive(Debug)]
pub(crate) enum Room {
    /// Nobody needs one yet.
    None,
    Opening {
        sfu: NodeId,
        tried: Vec<NodeId>,
        joins: Vec<WaitingJoin>,
    },
    Open {
        sfu: NodeId,
        since: Duration,
    },
    Closed,
}

/// A page that wants to join before the room is there.
#[derive(Debug)]
pub(crate) struct WaitingJoin {
    pub tag: Tag,
    pub leg: LegId,
    pub offer_sdp: String,
}

/// Where a dialled text leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Echo,
    User(User),
    Telephone(offhook_contract::dial::Destination),
}

impl Call {
    pub fn room_id(&self) -> RoomId {
        RoomId::from(&self.id)
    }
    pub const fn sfu(&self) -> Option<&NodeId> {
        match &self.room {
            Room::Open { sfu, .. } | Room::Opening { sfu, .. } => Some(sfu),
            Room::None | Room::Closed => None,
        }
    }
    pub const fn open_sfu(&self) -> Option<&NodeId> {
        match &self.room {
            Room::Open { sfu, .. } => Some(sfu),
            _ => None,
        }
    }

    pub const fn is_live(&self) -> bool {
        !matches!(self.state, CallState::Ended { .. })
    }
    pub const fn is_active(&self) -> bool {
        matches!(self.state, CallState::Active { .. })
    }
    pub const fn answered(&self) -> Option<UnixMs> {
        match self.state {
            CallState::Active { answered, .. } => Some(answered),
            CallState::Ended { answered, .. } => answered,
            _ => None,
        }
    }
    pub const fn word(&self) -> CallWord {
        match self.state {
            CallState::New => CallWord::New,
            CallState::Ringing => CallWord::Ringing,
            CallState::Early => CallWord::Early,
            CallState::Active { .. } => CallWord::Active,
            CallState::Ended { .. } => CallWord::Ended,
        }
    }

    pub fn leg(&self, id: &LegId) -> Option<&Leg> {
        self.legs.iter().find(|l| l.id == *id)
    }
    pub fn leg_mut(&mut self, id: &LegId) -> Option<&mut Leg> {
        self.legs.iter_mut().find(|l| l.id == *id)
    }
    pub fn caller(&self) -> Option<&Leg> {
        self.legs.first()
    }
    /// The telephone of the call; there is one at most.
    pub fn telephone(&self) -> Option<&Leg> {
        self.legs.iter().find(|l| l.telephone().is_some())
    }
    pub fn telephone_mut(&mut self) -> Option<&mut Leg> {
        self.legs.iter_mut().find(|l| l.telephone().is_some())
    }

    /// Emergency calls pass every limit, and nothing is done to them that could delay or end them.
    pub fn is_emergency(&self) -> bool {
        let to =
            |t: &crate::leg::Telephone| matches!(t.number, Some(offhook_contract::dial::Destination::Emergency(_)));
        self.direction == Direction::Outbound && self.telephone().and_then(Leg::telephone).is_some_and(to)
    }
    /// After this much talk the call ends by itself.
    pub fn longest(&self, rules: &offhook_contract::DialRules) -> Option<Duration> {
        (!self.is_emergency()).then(|| Duration::from_secs(u64::from(rules.max_call_s)))
    }

    /// Who put others on hold.
    fn holds(&self, holder: &LegId) -> bool {
        self.legs.iter().any(|l| matches!(&l.state, LegState::Held { by } if by == holder))
    }

    pub fn can_record(&self) -> bool {
        let busy = self.recording.as_ref().is_some_and(Recording::is_running);
        self.is_active() && self.direction != Direction::Echo && self.recording_mode != RecordingMode::Off && !busy
    }

    pub fn view(&self, mine: &LegId) -> Option<CallView> {
        let leg = self.leg(mine)?;
        let (ended_ms, cause, by) = match &self.state {
            CallState::Ended { at, cause, by, .. } => (Some(*at), Some(*cause), by.as_ref()),
            _ => (None, None, None),
        };
        let side = |_: HangupCause| match by {
            Some(by) if by == mine => CauseSide::Me,
            Some(_) => CauseSide::Other,
            None => CauseSide::System,
        };
        Some(CallView {
            id: self.id.clone(),
            direction: self.direction,
            state: self.word(),
            started_ms: self.started,
            answered_ms: self.answered(),
            ended_ms,
            cause,
            cause_side: cause.map(side),
            my_leg: LegView {
                id: leg.id.clone(),
                state: leg.state.word(),
                muted: leg.muted,
                held: self.holds(&leg.id),
            },
            parties: self.parties(mine),
            can_record: self.can_record(),
            recording: self.recording.as_ref().map(Recording::view),
        })
    }

    fn parties(&self, mine: &LegId) -> Vec<PartyView> {
        let others = self.legs.iter().filter(|l| l.id != *mine);
        let mut parties: Vec<PartyView> = others
            .map(|l| PartyView {
                leg: l.id.clone(),
                name: l.name(),
                number: l.number(),
                kind: l.kind(),
                state: l.state.word(),
                muted: l.muted,
                held: self.holds(&l.id),
            })
            .collect();
        if let (Some(target), true) = (&self.afterwards, parties.is_empty()) {
            parties.push(target.party(mine));
        }
        parties
    }

    pub fn row(&self) -> CallRow {
        let callee = self.legs.get(1);
        let (ended, cause, ended_by) = match &self.state {
            CallState::Ended { at, cause, by, .. } => (Some(*at), Some(*cause), by.clone()),
            _ => (None, None, None),
        };
        let later = self.afterwards.as_ref();
        CallRow {
            tenant: self.tenant.clone(),
            id: self.id.clone(),
            direction: self.direction,
            state: self.word(),
            caller: self.caller().and_then(Leg::user).cloned(),
            callee: callee.and_then(Leg::user).cloned(),
            from_name: self.caller().map(Leg::name).unwrap_or_default(),
            from_number: self.caller().and_then(Leg::number),
            to_name: callee.map(Leg::name).or_else(|| later.map(Target::name)).unwrap_or_default(),
            to_number: callee.and_then(Leg::number).or_else(|| later.map(Target::number)),
            recording_mode: self.recording_mode,
            started: self.started,
            answered: self.answered(),
            ended,
            cause,
            ended_by,
            sfu: self.sfu().cloned(),
        }
    }

    pub fn leg_rows(&self) -> impl Iterator<Item = LegRow> + '_ {
        self.legs.iter().enumerate().map(|(position, leg)| {
            let (ended, cause) = match leg.state {
                LegState::Ended { at, cause } => (Some(at), Some(cause)),
                _ => (None, None),
            };
            let telephone = leg.telephone();
            LegRow {
                tenant: self.tenant.clone(),
                call: self.id.clone(),
                id: leg.id.clone(),
                position: u8::try_from(position).unwrap_or(u8::MAX),
                kind: leg.kind(),
                state: leg.state.word(),
                user: leg.user().cloned(),
                session: leg.browser().and_then(|b| b.owner.session()).cloned(),
                name: leg.name(),
                number: leg.number(),
                node: telephone.map(|t| t.gateway.clone()),
                trunk: telephone.map(|t| t.trunk.clone()),
                sip_call_id: telephone.and_then(|t| t.sip_call_id.clone()),
                muted: leg.muted,
                held_by: if let LegState::Held { by } = &leg.state { Some(by.clone()) } else { None },
                started: leg.started,
                answered: leg.answered,
                ended,
                cause,
            }
        })
    }
}

impl Target {
    pub fn name(&self) -> String {
        match self {
            Self::Echo => ECHO_NAME.to_owned(),
            Self::User(user) => user.name.clone(),
            Self::Telephone(to) => crate::leg::destination_text(to),
        }
    }
    pub fn number(&self) -> String {
        match self {
            Self::Echo => ECHO_NUMBER.to_owned(),
            Self::User(user) => user.extension.clone(),
            Self::Telephone(to) => crate::leg::destination_text(to),
        }
    }
    pub const fn direction(&self) -> Direction {
        match self {
            Self::Echo => Direction::Echo,
            Self::User(_) => Direction::Internal,
            Self::Telephone(_) => Direction::Outbound,
        }
    }
    pub const fn is_emergency(&self) -> bool {
        matches!(self, Self::Telephone(offhook_contract::dial::Destination::Emergency(_)))
    }
    /// An emergency call is never recorded: no notice and no beep may stand between the caller and help.
    pub const fn recording(&self, wish: RecordingMode) -> RecordingMode {
        if self.is_emergency() { RecordingMode::Off } else { wish }
    }
    /// How the party that will be dialled is shown before its leg exists.
    fn party(&self, placeholder: &LegId) -> PartyView {
        use crate::view::{LegWord, PartyKind};
        let kind = match self {
            Self::Echo => PartyKind::Application,
            Self::User(_) => PartyKind::Browser,
            Self::Telephone(_) => PartyKind::Telephone,
        };
        PartyView {
            leg: placeholder.clone(),
            name: self.name(),
            number: Some(self.number()),
            kind,
            state: LegWord::Ringing,
            muted: false,
            held: false,
        }
    }
}

pub(crate) const ECHO_NUMBER: &str = "*43";
pub(crate) const ECHO_NAME: &str = "Echo test";

pub(crate) fn echo_party() -> Party {
    Party::Application { name: ECHO_NAME.to_owned(), number: ECHO_NUMBER.to_owned() }
}
