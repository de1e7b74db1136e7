//! One party's connection to a call: who it is, how its media stands, and its state.
use crate::ids::{SessionId, UserId};
use crate::input::User;
use crate::view::{LegWord, PartyKind};
use offhook_contract::dial::Destination;
use offhook_contract::{HangupCause, LegId, LinkOffer, NodeId, PhoneNumber, TrunkName, UnixMs};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Leg {
    pub id: LegId,
    pub party: Party,
    pub state: LegState,
    pub muted: bool,
    pub started: UnixMs,
    pub answered: Option<UnixMs>,
    /// When its node took it; then the consecutive looks that did not find it there, or not in the room.
    pub placed: Duration,
    pub missed: u8,
    pub missed_in_room: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LegState {
    /// It rings there.
    Ringing,
    /// Its media may flow before the answer: the caller's own leg, and a callee with early media.
    Early,
    Talking,
    Held {
        by: LegId,
    },
    Ended {
        at: UnixMs,
        cause: HangupCause,
    },
}

impl LegState {
    pub const fn word(&self) -> LegWord {
        match self {
            Self::Ringing => LegWord::Ringing,
            Self::Early => LegWord::Early,
            Self::Talking => LegWord::Talking,
            Self::Held { .. } => LegWord::Held,
            Self::Ended { .. } => LegWord::Ended,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Party {
    Browser(Browser),
    Telephone(Telephone),
    Application { name: String, number: String },
}

#[derive(Debug)]
pub(crate) struct Browser {
    pub user: User,
    pub owner: Owner,
    pub media: PeerMedia,
    /// A join is under way; `true` once its media came up before the reply did.
    pub joining: Option<bool>,
}

/// Which page has the leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// It rings on every page of the user.
    Nobody,
    Page(SessionId),
    /// The page was there and its WebSocket is gone.
    Lost(SessionId),
}

impl Owner {
    pub const fn session(&self) -> Option<&SessionId> {
        match self {
            Self::Nobody => None,
            Self::Page(session) | Self::Lost(session) => Some(session),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerMedia {
    None,
    Joined { at: UnixMs },
    Connected { joined: UnixMs },
}

#[derive(Debug)]
pub(crate) struct Telephone {
    pub gateway: NodeId,
    pub trunk: TrunkName,
    /// Absent when withheld.
    pub number: Option<Destination>,
    pub name: Option<String>,
    pub sip_call_id: Option<String>,
    pub media: TelephoneMedia,
}

/// How far a telephone's media half and its Link are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TelephoneMedia {
    /// Outbound: the room or the Link's SFU half is not there yet. The gateway knows nothing.
    Waiting,
    /// Outbound: the gateway was asked to dial.
    Dialling {
        offer: Box<LinkOffer>,
    },
    /// Inbound: the gateway holds the call; nobody answered yet.
    Offered,
    /// Inbound: a user answered; the Link's SFU half is being opened.
    Opening,
    /// Inbound: the gateway was asked to answer.
    Answering,
    /// Both halves exist; the SFU was told the other one, or (after our death) may have been.
    Connecting,
    Connected,
    /// The gateway let go of it.
    Gone,
}

impl Telephone {
    pub fn number_text(&self) -> Option<String> {
        self.number.as_ref().map(destination_text)
    }
    /// Both halves of its Link were made, and joined as far as we know.
    pub const fn has_link(&self) -> bool {
        matches!(self.media, TelephoneMedia::Connecting | TelephoneMedia::Connected)
    }
    pub const fn held_by_gateway(&self) -> bool {
        !matches!(self.media, TelephoneMedia::Waiting | TelephoneMedia::Gone)
    }
}

pub(crate) fn destination_text(destination: &Destination) -> String {
    match destination {
        Destination::Number(number) => number.e164().to_owned(),
        Destination::Emergency(digits) => digits.clone(),
    }
}

/// The reverse of [`destination_text`], for rows read back.
pub(crate) fn destination_from(text: &str) -> Destination {
    PhoneNumber::try_from(text.to_owned()).map_or_else(|_| Destination::Emergency(text.to_owned()), Destination::Number)
}

impl Leg {
    pub fn new(id: LegId, party: Party, state: LegState, started: UnixMs) -> Self {
        Self {
            id,
            party,
            state,
            muted: false,
            started,
            answered: None,
            placed: Duration::ZERO,
            missed: 0,
            missed_in_room: 0,
        }
    }

    pub const fn is_live(&self) -> bool {
        !matches!(self.state, LegState::Ended { .. })
    }
    pub const fn is_answered(&self) -> bool {
        matches!(self.state, LegState::Talking | LegState::Held { .. })
    }

    pub const fn browser(&self) -> Option<&Browser> {
        match &self.party {
            Party::Browser(browser) => Some(browser),
            _ => None,
        }
    }
    pub const fn browser_mut(&mut self) -> Option<&mut Browser> {
        match &mut self.party {
            Party::Browser(browser) => Some(browser),
            _ => None,
        }
    }
    pub const fn telephone(&self) -> Option<&Telephone> {
        match &self.party {
            Party::Telephone(telephone) => Some(telephone),
            _ => None,
        }
    }
    pub const fn telephone_mut(&mut self) -> Option<&mut Telephone> {
        match &mut self.party {
            Party::Telephone(telephone) => Some(telephone),
            _ => None,
        }
    }
    pub fn user(&self) -> Option<&UserId> {
        self.browser().map(|b| &b.user.id)
    }

    /// Whether the party can hear and be heard.
    pub fn has_media(&self) -> bool {
        match &self.party {
            Party::Browser(browser) => matches!(browser.media, PeerMedia::Connected { .. }),
            Party::Telephone(telephone) => telephone.media == TelephoneMedia::Connected,
            Party::Application { .. } => true,
        }
    }

    pub const fn kind(&self) -> PartyKind {
        match self.party {
            Party::Browser(_) => PartyKind::Browser,
            Party::Telephone(_) => PartyKind::Telephone,
            Party::Application { .. } => PartyKind::Application,
        }
    }

    pub fn name(&self) -> String {
        match &self.party {
            Party::Browser(browser) => browser.user.name.clone(),
            Party::Telephone(telephone) => {
                telephone.name.clone().or_else(|| telephone.number_text()).unwrap_or_default()
            }
            Party::Application { name, .. } => name.clone(),
        }
    }

    pub fn number(&self) -> Option<String> {
        match &self.party {
            Party::Browser(browser) => Some(browser.user.extension.clone()),
            Party::Telephone(telephone) => telephone.number_text(),
            Party::Application { number, .. } => Some(number.clone()),
        }
    }
}
