//! What a receiver reports about one source (RFC 3550 §6.4.1, appendices A.1 and A.3).

use crate::rtcp::ReportBlock;
use crate::{JitterEstimator, NtpTime, ntp};

/// RFC 3550 A.1: a forward gap below this is loss, not a restart.
const MAX_DROPOUT: u16 = 3000;
/// RFC 3550 A.1: a packet this far behind is late, not a restart.
const MAX_MISORDER: u16 = 100;

/// Counts one source's packets. The probation of A.1 is left out: packets counted here are authenticated.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReceiverStats {
    counts: Option<Counts>,
    jitter: JitterEstimator,
    last_sender_report: Option<(u32, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Counts {
    base: u16,
    highest: u16,
    cycles: u16,
    /// The number that would confirm a restart of the source.
    restart_at: Option<u16>,
    received: u32,
    expected_before: u32,
    received_before: u32,
}

impl Counts {
    const fn starting_at(sequence: u16) -> Self {
        Self {
            base: sequence,
            highest: sequence,
            cycles: 0,
            restart_at: None,
            received: 0,
            expected_before: 0,
            received_before: 0,
        }
    }

    const fn extended_highest(&self) -> u32 {
        ((self.cycles as u32) << 16) | self.highest as u32
    }

    const fn expected(&self) -> u32 {
        self.extended_highest().wrapping_sub(self.base as u32).wrapping_add(1)
    }

    /// Whether the packet counts (RFC 3550 A.1).
    fn take(&mut self, sequence: u16) -> bool {
        let ahead = sequence.wrapping_sub(self.highest);
        if ahead < MAX_DROPOUT {
            self.cycles = self.cycles.wrapping_add(u16::from(sequence < self.highest));
            self.highest = sequence;
        } else if ahead <= u16::MAX - MAX_MISORDER + 1 {
            if self.restart_at != Some(sequence) {
                self.restart_at = Some(sequence.wrapping_add(1));
                return false;
            }
            *self = Self::starting_at(sequence);
        }
        self.restart_at = None;
        self.received = self.received.wrapping_add(1);
        true
    }
}

impl ReceiverStats {
    #[must_use]
    pub const fn new() -> Self {
        Self { counts: None, jitter: JitterEstimator::new(), last_sender_report: None }
    }

    /// Takes one packet; `clock_hz` is that of its payload type.
    pub fn on_packet(&mut self, sequence: u16, timestamp: u32, clock_hz: u32, arrival_ns: u64) {
        let counts = self.counts.get_or_insert(Counts::starting_at(sequence));
        if counts.take(sequence) {
            self.jitter.update(timestamp, clock_hz, arrival_ns);
        }
    }

    /// Remembers the source's last sender report for LSR and DLSR.
    pub fn on_sender_report(&mut self, ntp: NtpTime, arrival_ns: u64) {
        self.last_sender_report = Some((ntp.middle(), arrival_ns));
    }

    /// Packets lost since the start; negative when duplicates outnumber losses.
    #[must_use]
    pub fn cumulative_lost(&self) -> i32 {
        self.counts.as_ref().map_or(0, |counts| {
            let lost = i64::from(counts.expected()) - i64::from(counts.received);
            // A 24-bit signed field (RFC 3550 §6.4.1).
            i32::try_from(lost.clamp(-0x80_0000, 0x7F_FFFF)).unwrap_or(0)
        })
    }

    #[must_use]
    pub const fn jitter_ticks(&self) -> u32 {
        self.jitter.ticks()
    }

    /// The block about `ssrc` at `now_ns`, or nothing before its first packet. Begins the next interval.
    pub fn report(&mut self, ssrc: u32, now_ns: u64) -> Option<ReportBlock> {
        let cumulative_lost = self.cumulative_lost();
        let jitter = self.jitter.ticks();
        let counts = self.counts.as_mut()?;
        let expected = counts.expected();
        let interval_expected = expected.wrapping_sub(counts.expected_before);
        let interval_received = counts.received.wrapping_sub(counts.received_before);
        counts.expected_before = expected;
        counts.received_before = counts.received;
        let lost = interval_expected.saturating_sub(interval_received);
        let fraction = (u64::from(lost) << 8).checked_div(u64::from(interval_expected)).unwrap_or(0);
        let (last_sr, delay) = match self.last_sender_report {
            Some((middle, arrival_ns)) => (middle, ntp::short_format(now_ns.saturating_sub(arrival_ns))),
            None => (0, 0),
        };
        Some(ReportBlock {
            ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            cumulative_lost,
            highest_sequence: counts.extended_highest(),
            jitter,
            last_sr,
            delay_since_last_sr: delay,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn feed(stats: &mut ReceiverStats, sequences: impl IntoIterator<Item = u16>) {
        for sequence in sequences {
            stats.on_packet(sequence, u32::from(sequence) * 160, 8000, u64::from(sequence) * 20 * MS);
        }
    }

    #[test]
    fn nothing_heard_is_nothing_to_report() {
        assert_eq!(ReceiverStats::new().report(1, 0), None);
    }

    #[test]
    fn loss_is_counted_per_interval_and_in_total() {
        let mut stats = ReceiverStats::new();
        feed(&mut stats, (0..100).filter(|n| n % 4 != 3));
        let first = stats.report(9, 0).unwrap();
        // 99 is among the lost but nothing after it says so yet
        assert_eq!((first.cumulative_lost, first.highest_sequence), (24, 98));
        assert_eq!(first.fraction_lost, u8::try_from((24 << 8) / 99).unwrap());
        feed(&mut stats, 100..200);
        let second = stats.report(9, 0).unwrap();
        assert_eq!((second.cumulative_lost, second.fraction_lost), (25, 2));
    }

    #[test]
    fn the_wrap_adds_a_cycle_and_loses_nothing() {
        let mut stats = ReceiverStats::new();
        feed(&mut stats, (65_000..=65_535).chain(0..500));
        let report = stats.report(1, 0).unwrap();
        assert_eq!((report.cumulative_lost, report.highest_sequence), (0, 0x1_0000 | 499));
    }

    #[test]
    fn late_and_repeated_packets_do_not_move_the_highest() {
        let mut stats = ReceiverStats::new();
        feed(&mut stats, [10, 12, 11, 11, 13]);
        let report = stats.report(1, 0).unwrap();
        assert_eq!((report.cumulative_lost, report.fraction_lost, report.highest_sequence), (-1, 0, 13));
    }

    #[test]
    fn one_stray_number_is_ignored_two_in_a_row_are_a_restart() {
        let mut stats = ReceiverStats::new();
        feed(&mut stats, [10, 11, 40_000, 12, 13]);
        assert_eq!(stats.report(1, 0).unwrap().highest_sequence, 13);
        feed(&mut stats, [40_000, 40_001, 40_002]);
        let report = stats.report(1, 0).unwrap();
        assert_eq!((report.highest_sequence, report.cumulative_lost), (40_002, 0));
    }

    #[test]
    fn the_last_sender_report_gives_the_round_trip() {
        let mut stats = ReceiverStats::new();
        feed(&mut stats, [1]);
        let sent = NtpTime::from_unix_ms(1_700_000_000_000);
        stats.on_sender_report(sent, 5_000 * MS);
        let block = stats.report(1, 6_500 * MS).unwrap();
        assert_eq!((block.last_sr, block.delay_since_last_sr), (sent.middle(), 0x1_8000));
        let heard = NtpTime::from_unix_ms(1_700_000_001_580);
        let trip = block.round_trip(heard).unwrap();
        assert!((79..=81).contains(&trip.as_millis()), "{trip:?}");
    }
}
