//! NTP timestamps as sender reports carry them (RFC 3550 §4, RFC 5905 §6).

use core::time::Duration;

/// Seconds between 1900 and 1970.
const UNIX_OFFSET_S: u64 = 2_208_988_800;

/// 32 bits of seconds since 1900, 32 bits of fraction; seconds wrap in 2036.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NtpTime(pub u64);

impl NtpTime {
    #[must_use]
    pub const fn from_unix_ms(unix_ms: u64) -> Self {
        Self::new(unix_ms / 1000, (unix_ms % 1000) * 1_000_000)
    }

    #[must_use]
    pub const fn from_unix_ns(unix_ns: u64) -> Self {
        Self::new(unix_ns / 1_000_000_000, unix_ns % 1_000_000_000)
    }

    const fn new(unix_s: u64, ns: u64) -> Self {
        let seconds = unix_s.wrapping_add(UNIX_OFFSET_S) & 0xFFFF_FFFF;
        Self((seconds << 32) | ((ns << 32) / 1_000_000_000))
    }

    /// Milliseconds since 1970, rounded to the nearest. Second counts before 1970 are read as after the wrap of 2036.
    #[must_use]
    pub const fn to_unix_ms(self) -> u64 {
        let seconds = self.0 >> 32;
        let seconds = if seconds < UNIX_OFFSET_S { seconds + (1 << 32) } else { seconds };
        let fraction_ms = ((self.0 & 0xFFFF_FFFF) * 1000 + (1 << 31)) >> 32;
        (seconds - UNIX_OFFSET_S) * 1000 + fraction_ms
    }

    /// The middle 32 bits, as LSR carries them (RFC 3550 §6.4.1): 1/65536 s.
    #[must_use]
    pub const fn middle(self) -> u32 {
        ((self.0 >> 16) & 0xFFFF_FFFF) as u32
    }
}

/// A duration in units of 1/65536 s, as DLSR carries it; saturates at 18 hours.
pub(crate) fn short_format(ns: u64) -> u32 {
    let units = (u128::from(ns) << 16) / 1_000_000_000;
    u32::try_from(units).unwrap_or(u32::MAX)
}

pub(crate) fn from_short_format(units: u32) -> Duration {
    Duration::from_nanos((u64::from(units) * 1_000_000_000) >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_survive_both_ways_and_past_2036() {
        for unix_ms in [0, 1, 999, 1_700_000_000_123, 2_085_978_495_999, 2_085_978_496_000, 4_000_000_000_500] {
            assert_eq!(NtpTime::from_unix_ms(unix_ms).to_unix_ms(), unix_ms);
            assert_eq!(NtpTime::from_unix_ns(unix_ms * 1_000_000).to_unix_ms(), unix_ms);
        }
    }

    #[test]
    fn known_instants_have_their_known_form() {
        assert_eq!(NtpTime::from_unix_ms(0).0, 2_208_988_800 << 32);
        assert_eq!(NtpTime::from_unix_ms(500).0, (2_208_988_800 << 32) | (1 << 31));
        assert_eq!(NtpTime(0x1234_5678_9ABC_DEF0).middle(), 0x5678_9ABC);
        assert_eq!(short_format(1_500_000_000), 0x1_8000);
        assert_eq!(from_short_format(0x1_8000), Duration::from_millis(1500));
        assert_eq!(short_format(u64::MAX), u32::MAX);
    }
}
