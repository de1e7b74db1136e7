//! The last gate before an INVITE: the dialling rules once more, with what this gateway itself has seen of their use.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use offhook_contract::dial::{Destination, DialUsage};
use offhook_contract::{DialRefusal, DialRules, TenantId, UnixMs};

const MINUTE: Duration = Duration::from_secs(60);
const DAY_MS: u64 = 86_400_000;
/// Dials of one tenant remembered at most; more than any rule allows within a minute.
const REMEMBERED: usize = 10_000;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GateRefusal {
    #[error(transparent)]
    Rules(#[from] DialRefusal),
    #[error("{0:?} is no emergency number of [dial]")]
    NoEmergencyNumber(String),
    #[error("emergency numbers leave by a trunk with emergency = true, not by this one")]
    NotForEmergencies,
}

impl GateRefusal {
    /// Whether a limit was reached, rather than a rule broken.
    pub const fn is_limit(&self) -> bool {
        matches!(
            self,
            Self::Rules(DialRefusal::Concurrent { .. } | DialRefusal::Rate { .. } | DialRefusal::Minutes { .. })
        )
    }
}

/// One tenant's use.
#[derive(Debug, Default)]
struct Usage {
    concurrent: u32,
    dials: VecDeque<Duration>,
    day: u64,
    spoken_ms: u64,
}

#[derive(Debug)]
pub struct Gate {
    rules: DialRules,
    usage: HashMap<TenantId, Usage>,
}

impl Gate {
    pub fn new(rules: DialRules) -> Self {
        Self { rules, usage: HashMap::new() }
    }

    /// Takes new rules; what was used stays used.
    pub fn set_rules(&mut self, rules: DialRules) {
        self.rules = rules;
    }

    /// Whether `to` may be dialled now. `emergency_trunk` says what the trunk is marked for.
    pub fn check(
        &mut self,
        tenant: &TenantId,
        to: &Destination,
        emergency_trunk: bool,
        now: Duration,
        wall: UnixMs,
    ) -> Result<(), GateRefusal> {
        match to {
            Destination::Emergency(digits) if !self.rules.is_emergency(digits) => {
                Err(GateRefusal::NoEmergencyNumber(digits.chars().take(16).collect()))
            }
            Destination::Emergency(_) if !emergency_trunk => Err(GateRefusal::NotForEmergencies),
            Destination::Emergency(_) => Ok(()),
            Destination::Number(number) => {
                let usage = self.of(tenant, now, wall);
                Ok(self.rules.check_number(number, usage)?)
            }
        }
    }

    fn of(&mut self, tenant: &TenantId, now: Duration, wall: UnixMs) -> DialUsage {
        let Some(usage) = self.usage.get_mut(tenant) else { return DialUsage::default() };
        usage.turn_day(wall);
        while usage.dials.front().is_some_and(|at| *at + MINUTE <= now) {
            usage.dials.pop_front();
        }
        DialUsage {
            concurrent_calls: usage.concurrent,
            calls_last_minute: u32::try_from(usage.dials.len()).unwrap_or(u32::MAX),
            minutes_today: u32::try_from(usage.spoken_ms.div_ceil(60_000)).unwrap_or(u32::MAX),
        }
    }

    /// A call was dialled.
    pub fn dialled(&mut self, tenant: &TenantId, now: Duration) {
        let usage = self.usage.entry(tenant.clone()).or_default();
        usage.concurrent += 1;
        if usage.dials.len() == REMEMBERED {
            usage.dials.pop_front();
        }
        usage.dials.push_back(now);
    }

    /// A call that was dialled is over; `spoken` since its answer.
    pub fn ended(&mut self, tenant: &TenantId, spoken: Duration, wall: UnixMs) {
        let Some(usage) = self.usage.get_mut(tenant) else { return };
        usage.turn_day(wall);
        usage.concurrent = usage.concurrent.saturating_sub(1);
        usage.spoken_ms += u64::try_from(spoken.as_millis()).unwrap_or(u64::MAX / 4);
    }
}

impl Usage {
    /// Minutes are counted per day of UTC.
    fn turn_day(&mut self, wall: UnixMs) {
        let day = wall.0 / DAY_MS;
        if day != self.day {
            self.day = day;
            self.spoken_ms = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_contract::PhoneNumber;

    fn number(text: &str) -> Destination {
        Destination::Number(PhoneNumber::try_from(text.to_owned()).unwrap())
    }

    fn gate() -> (Gate, TenantId) {
        let rules = DialRules {
            allowed_prefixes: vec!["+49".into()],
            max_concurrent_calls: 2,
            max_calls_per_minute: 3,
            max_minutes_per_day: 10,
            ..DialRules::default()
        };
        (Gate::new(rules), TenantId::parse("acme").unwrap())
    }

    fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn limits_count_what_this_gateway_dialled() {
        let (mut gate, acme) = gate();
        let other = TenantId::parse("other").unwrap();
        let to = number("+493012345");
        let wall = UnixMs(5 * DAY_MS);
        for _ in 0..2 {
            gate.check(&acme, &to, false, s(0), wall).unwrap();
            gate.dialled(&acme, s(0));
        }
        let refused = gate.check(&acme, &to, false, s(1), wall).unwrap_err();
        assert!(refused.is_limit());
        assert_eq!(refused, DialRefusal::Concurrent { limit: 2 }.into());
        assert_eq!(gate.check(&other, &to, false, s(1), wall), Ok(()));
        gate.ended(&acme, s(0), wall);
        gate.dialled(&acme, s(2));
        gate.ended(&acme, s(0), wall);
        assert_eq!(gate.check(&acme, &to, false, s(3), wall), Err(DialRefusal::Rate { limit: 3 }.into()));
        assert_eq!(gate.check(&acme, &to, false, s(60), wall), Ok(()));
        gate.ended(&acme, s(600), wall);
        assert_eq!(gate.check(&acme, &to, false, s(700), wall), Err(DialRefusal::Minutes { limit: 10 }.into()));
        assert_eq!(gate.check(&acme, &to, false, s(700), wall.plus_ms(DAY_MS)), Ok(()), "the next day");
    }

    #[test]
    fn numbers_outside_the_rules_never_pass_and_emergencies_always_by_their_trunk() {
        let (mut gate, acme) = gate();
        let wall = UnixMs(0);
        let refused = gate.check(&acme, &number("+12125550000"), true, s(0), wall).unwrap_err();
        assert!(!refused.is_limit());
        for n in 0..50 {
            gate.dialled(&acme, s(n));
        }
        let emergency = Destination::Emergency("112".into());
        assert_eq!(gate.check(&acme, &emergency, true, s(0), wall), Ok(()));
        assert_eq!(gate.check(&acme, &emergency, false, s(0), wall), Err(GateRefusal::NotForEmergencies));
        let fake = Destination::Emergency("09001234".into());
        assert!(matches!(gate.check(&acme, &fake, true, s(0), wall), Err(GateRefusal::NoEmergencyNumber(_))));
    }
}
