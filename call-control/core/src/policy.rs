//! What the operator decided: time-outs, dialling rules, trunks, recording.
use offhook_contract::audio::{BeepPlan, PromptName};
use offhook_contract::dial::NumberingPlan;
use offhook_contract::{DialRules, TenantId, TrunkName};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// When the calls of a tenant or a number are recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingMode {
    #[default]
    Off,
    /// From the answer on, by itself.
    OnAnswer,
    /// When a user presses the button.
    OnDemand,
}

impl RecordingMode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::OnAnswer => "on_answer",
            Self::OnDemand => "on_demand",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Off, Self::OnAnswer, Self::OnDemand].into_iter().find(|m| m.as_str() == text)
    }
}

/// What call-control knows of a trunk. Addresses and passwords are the gateway's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkRule {
    pub name: TrunkName,
    pub tenant: TenantId,
    pub emergency: bool,
}

#[derive(Debug, Clone)]
pub struct Policy {
    pub ring_timeout: Duration,
    /// How long a leg outlives its page's WebSocket.
    pub page_grace: Duration,
    /// From dial or answer to the browser's media.
    pub media_timeout: Duration,
    /// How long a recording waits for parties whose media is not up yet.
    pub recording_wait: Duration,
    /// How long a recorder may be away that was asked to begin: longer than it dials a Tap.
    pub recorder_grace: Duration,
    /// Between two looks at what the nodes carry.
    pub sweep_period: Duration,
    pub retry_after: Duration,
    pub max_calls: usize,
    pub max_calls_per_user: usize,
    pub dial: DialRules,
    pub numbering: NumberingPlan,
    pub trunks: Vec<TrunkRule>,
    pub notice: PromptName,
    pub beep: BeepPlan,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            ring_timeout: Duration::from_secs(30),
            page_grace: Duration::from_secs(30),
            media_timeout: Duration::from_secs(20),
            recording_wait: Duration::from_secs(10),
            recorder_grace: Duration::from_secs(30),
            sweep_period: Duration::from_secs(15),
            retry_after: Duration::from_secs(3),
            max_calls: 300,
            max_calls_per_user: 8,
            dial: DialRules::default(),
            numbering: NumberingPlan::default(),
            trunks: Vec::new(),
            notice: PromptName { name: "recorded".into(), language: "en".into() },
            beep: BeepPlan::default(),
        }
    }
}

impl Policy {
    pub(crate) fn trunks_of<'a>(&'a self, tenant: &'a TenantId) -> impl Iterator<Item = &'a TrunkRule> {
        self.trunks.iter().filter(move |t| t.tenant == *tenant)
    }
    /// Whether the page may offer emergency calls at all.
    pub fn emergency_calls(&self, tenant: &TenantId) -> bool {
        self.trunks_of(tenant).any(|t| t.emergency)
    }
    pub fn outbound_calls(&self, tenant: &TenantId) -> bool {
        self.trunks_of(tenant).next().is_some()
    }
}
