//! Where a recording lies below the storage directory: `rec/<tenant>/<yyyy>/<mm>/<dd>/<call>/<recording>`. Made of
//! checked ids and a date; no text from outside becomes a path.
use offhook_contract::{CallId, RecordingId, TenantId, UnixMs};
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingPath {
    pub tenant: TenantId,
    pub call: CallId,
    pub recording: RecordingId,
    /// When the call was answered; its UTC day names the directory.
    pub answered: UnixMs,
}

impl RecordingPath {
    /// Relative to the storage directory.
    pub fn relative(&self) -> PathBuf {
        let (year, month, day) = utc_date(self.answered);
        ["rec", self.tenant.as_str(), &format!("{year:04}"), &format!("{month:02}"), &format!("{day:02}")]
            .into_iter()
            .chain([self.call.as_str(), self.recording.as_str()])
            .collect()
    }
}

/// Year, month and day in UTC (the proleptic Gregorian calendar counted in eras of 400 years from 1 March 0000).
pub fn utc_date(at: UnixMs) -> (u64, u64, u64) {
    let days = at.0 / 86_400_000 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_named_as_the_calendar_names_them() {
        assert_eq!(utc_date(UnixMs(0)), (1970, 1, 1));
        assert_eq!(utc_date(UnixMs(951_782_399_999)), (2000, 2, 28));
        assert_eq!(utc_date(UnixMs(951_782_400_000)), (2000, 2, 29));
        assert_eq!(utc_date(UnixMs(1_795_219_200_000)), (2026, 11, 21));
        assert_eq!(utc_date(UnixMs(4_102_444_799_000)), (2099, 12, 31));
    }

    #[test]
    fn a_path_is_made_of_ids_and_a_date() {
        let path = RecordingPath {
            tenant: TenantId::parse("acme").unwrap(),
            call: CallId::parse("call-1").unwrap(),
            recording: RecordingId::parse("rec-1").unwrap(),
            answered: UnixMs(951_782_400_000),
        };
        assert_eq!(path.relative().to_str().unwrap(), "rec/acme/2000/02/29/call-1/rec-1");
    }
}
