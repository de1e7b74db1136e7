//! How much each tenant has dialled out: the counts behind the limits.
use crate::ids::Now;
use offhook_contract::TenantId;
use offhook_contract::dial::DialUsage;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const DAY_MS: u64 = 86_400_000;
/// More starts than any limit allows are not remembered one by one.
const REMEMBERED: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Usage(HashMap<TenantId, TenantUsage>);

#[derive(Debug, Default)]
struct TenantUsage {
    starts: VecDeque<Duration>,
    day: u64,
    minutes: u32,
}

impl Usage {
    pub fn of(&self, tenant: &TenantId, now: Now, concurrent_calls: u32) -> DialUsage {
        let Some(usage) = self.0.get(tenant) else { return DialUsage { concurrent_calls, ..DialUsage::default() } };
        let recent = usage.starts.iter().filter(|at| **at + MINUTE > now.at).count();
        DialUsage {
            concurrent_calls,
            calls_last_minute: u32::try_from(recent).unwrap_or(u32::MAX),
            minutes_today: if usage.day == now.wall.0 / DAY_MS { usage.minutes } else { 0 },
        }
    }

    pub fn dialled(&mut self, tenant: &TenantId, now: Now) {
        let usage = self.0.entry(tenant.clone()).or_default();
        while usage.starts.front().is_some_and(|at| *at + MINUTE <= now.at) || usage.starts.len() >= REMEMBERED {
            usage.starts.pop_front();
        }
        usage.starts.push_back(now.at);
    }

    /// Adds minutes to the UTC day of `now`.
    pub fn talked(&mut self, tenant: &TenantId, now: Now, minutes: u32) {
        let usage = self.0.entry(tenant.clone()).or_default();
        let day = now.wall.0 / DAY_MS;
        if usage.day != day {
            (usage.day, usage.minutes) = (day, 0);
        }
        usage.minutes = usage.minutes.saturating_add(minutes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_contract::UnixMs;

    fn now(s: u64) -> Now {
        Now { at: Duration::from_secs(s), wall: UnixMs(DAY_MS * 20_000 + s * 1000) }
    }

    #[test]
    fn starts_count_for_a_minute_and_minutes_for_a_day() {
        let tenant = TenantId::parse("a").unwrap();
        let mut usage = Usage::default();
        usage.dialled(&tenant, now(0));
        usage.dialled(&tenant, now(30));
        usage.talked(&tenant, now(30), 5);
        assert_eq!(
            usage.of(&tenant, now(31), 1),
            DialUsage { concurrent_calls: 1, calls_last_minute: 2, minutes_today: 5 }
        );
        assert_eq!(usage.of(&tenant, now(61), 0).calls_last_minute, 1);
        assert_eq!(usage.of(&tenant, now(86_401), 0).minutes_today, 0);
        assert_eq!(usage.of(&TenantId::parse("b").unwrap(), now(1), 0), DialUsage::default());
    }
}
