//! The table of telephone legs: who they are for call-control, for SIP and for the media threads.

use std::collections::HashMap;
use std::time::Duration;

use offhook_contract::dial::Destination;
use offhook_contract::gateway::{TelephoneLegRow, TelephoneState};
use offhook_contract::{CallId, Context, Epoch, LegId, TenantId, TrunkName, UnixMs};
use offhook_sip_core::api::LegHandle;

use crate::media::LegKey;

/// Under whose names a leg acts.
#[derive(Debug, Clone)]
pub struct Identity {
    pub leg: LegId,
    pub call: CallId,
    pub tenant: TenantId,
    pub epoch: Option<Epoch>,
}

impl Identity {
    pub fn context(&self) -> Context {
        Context { tenant: Some(self.tenant.clone()), call: Some(self.call.clone()), epoch: self.epoch }
    }
}

/// Where a leg stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The INVITE is out, or an incoming call waits for its callee.
    Dialling,
    Ringing,
    /// The other side is heard before the answer.
    Early,
    Talking {
        since: Duration,
    },
    Held {
        since: Duration,
    },
}

impl Stage {
    pub const fn answered_at(self) -> Option<Duration> {
        match self {
            Self::Talking { since } | Self::Held { since } => Some(since),
            Self::Dialling | Self::Ringing | Self::Early => None,
        }
    }

    const fn told(self) -> TelephoneState {
        match self {
            Self::Dialling => TelephoneState::Dialling,
            Self::Ringing => TelephoneState::Ringing,
            Self::Early => TelephoneState::Early,
            Self::Talking { .. } => TelephoneState::Talking,
            Self::Held { .. } => TelephoneState::Held,
        }
    }
}

#[derive(Debug)]
pub struct Leg {
    pub identity: Identity,
    pub trunk: TrunkName,
    pub outbound: bool,
    /// The other side's number; absent when withheld.
    pub number: Option<Destination>,
    pub stage: Stage,
    pub since: UnixMs,
    pub sip: LegHandle,
    pub sip_call_id: String,
    /// Absent while an incoming call rings.
    pub media: Option<LegKey>,
}

/// All legs, found by each of their names.
#[derive(Debug, Default)]
pub struct Legs {
    legs: HashMap<LegId, Leg>,
    by_sip: HashMap<LegHandle, LegId>,
    by_media: HashMap<LegKey, LegId>,
}

impl Legs {
    pub fn len(&self) -> usize {
        self.legs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.legs.is_empty()
    }

    pub fn contains(&self, leg: &LegId) -> bool {
        self.legs.contains_key(leg)
    }

    pub fn insert(&mut self, leg: Leg) {
        let id = leg.identity.leg.clone();
        self.by_sip.insert(leg.sip, id.clone());
        if let Some(media) = leg.media {
            self.by_media.insert(media, id.clone());
        }
        self.legs.insert(id, leg);
    }

    pub fn get_mut(&mut self, leg: &LegId) -> Option<&mut Leg> {
        self.legs.get_mut(leg)
    }

    pub fn by_sip(&mut self, sip: LegHandle) -> Option<&mut Leg> {
        self.by_sip.get(&sip).and_then(|id| self.legs.get_mut(id))
    }

    pub fn by_media(&mut self, media: LegKey) -> Option<&mut Leg> {
        self.by_media.get(&media).and_then(|id| self.legs.get_mut(id))
    }

    /// An incoming leg got its media.
    pub fn set_media(&mut self, leg: &LegId, media: LegKey) {
        if let Some(found) = self.legs.get_mut(leg) {
            found.media = Some(media);
            self.by_media.insert(media, leg.clone());
        }
    }

    /// An incoming leg could not be answered.
    pub fn take_media(&mut self, leg: &LegId) {
        if let Some(media) = self.legs.get_mut(leg).and_then(|l| l.media.take()) {
            self.by_media.remove(&media);
        }
    }

    pub fn remove(&mut self, sip: LegHandle) -> Option<Leg> {
        let leg = self.legs.remove(&self.by_sip.remove(&sip)?)?;
        if let Some(media) = leg.media {
            self.by_media.remove(&media);
        }
        Some(leg)
    }

    pub fn on_trunk(&self, trunk: &TrunkName) -> usize {
        self.legs.values().filter(|l| l.trunk == *trunk).count()
    }

    pub fn outbound(&self) -> usize {
        self.legs.values().filter(|l| l.outbound).count()
    }

    pub fn handles(&self) -> Vec<LegHandle> {
        self.by_sip.keys().copied().collect()
    }

    pub fn rows(&self) -> Vec<TelephoneLegRow> {
        self.legs.values().map(row).collect()
    }
}

fn row(leg: &Leg) -> TelephoneLegRow {
    TelephoneLegRow {
        leg: leg.identity.leg.clone(),
        call: leg.identity.call.clone(),
        tenant: leg.identity.tenant.clone(),
        epoch: leg.identity.epoch,
        trunk: leg.trunk.clone(),
        outbound: leg.outbound,
        number: leg.number.clone(),
        state: leg.stage.told(),
        since_ms: leg.since,
        sip_call_id: leg.sip_call_id.clone(),
    }
}
