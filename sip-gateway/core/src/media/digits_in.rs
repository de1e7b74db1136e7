//! Key presses from the telephone: a press is many packets, told once (RFC 4733 §2.5).

use std::time::Duration;

use offhook_wire_rtp::TelephoneEvent;

/// A press whose end packets were all lost is over when nothing came for this long (RFC 4733 §2.5.2.2 leaves the time to us).
const LOST_END: Duration = Duration::from_millis(200);
/// A packet may be overtaken by one of a later press for so long. What comes after that with an older timestamp is no
/// straggler: the carrier's clock has jumped.
const OVERTAKEN: Duration = Duration::from_secs(1);
/// Digits told at once at most (a number dialled by a machine and delayed on the way), and how fast that fills up again:
/// 20 a second is more than any finger or autodialler makes. The rest is dropped.
const BURST: u32 = 32;
const REFILL: Duration = Duration::from_millis(50);

/// A key that was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digit {
    pub key: char,
    pub duration_ms: u32,
}

#[derive(Debug, Clone, Copy)]
struct Press {
    source: u32,
    timestamp: u32,
    key: Option<char>,
    ticks: u32,
    /// The last packet's own duration field, to see it wrap.
    field: u16,
    told: bool,
    seen: Duration,
}

/// Follows the presses of one stream. The timestamp names a press: all its packets carry the same.
#[derive(Debug)]
pub(super) struct DigitReceiver {
    press: Option<Press>,
    allowance: u32,
    filled: Duration,
}

impl Default for DigitReceiver {
    fn default() -> Self {
        Self { press: None, allowance: BURST, filled: Duration::ZERO }
    }
}

impl DigitReceiver {
    /// Takes one event packet; gives the digit when the press is known to be over.
    pub(super) fn packet(
        &mut self,
        now: Duration,
        source: u32,
        timestamp: u32,
        event: TelephoneEvent,
    ) -> Option<Digit> {
        let known = self.press.filter(|p| p.source == source);
        let same = known.is_some_and(|p| p.timestamp == timestamp);
        if let (false, Some(press)) = (same, known)
            && (press.timestamp.wrapping_sub(timestamp) as i32) > 0
            && now.saturating_sub(press.seen) < OVERTAKEN
        {
            // A late packet of an earlier press: it was told already, or never will be.
            return None;
        }
        let unfinished = if same { None } else { self.finish(now) };
        let new = Press { source, timestamp, key: event.key(), ticks: 0, field: 0, told: false, seen: now };
        let press = self.press.get_or_insert(new);
        press.seen = now;
        if event.duration >= press.field || !same {
            press.ticks += u32::from(event.duration - if same { press.field } else { 0 });
            press.field = event.duration;
        }
        if event.end && unfinished.is_none() {
            return self.tell(now);
        }
        unfinished
    }

    /// When [`Self::expire`] may have something.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.press.filter(|p| !p.told).map(|p| p.seen + LOST_END)
    }

    /// Ends a press whose end was lost.
    pub(super) fn expire(&mut self, now: Duration) -> Option<Digit> {
        if self.deadline().is_some_and(|at| now >= at) { self.tell(now) } else { None }
    }

    fn finish(&mut self, now: Duration) -> Option<Digit> {
        let digit = self.tell(now);
        self.press = None;
        digit
    }

    fn tell(&mut self, now: Duration) -> Option<Digit> {
        let press = self.press.as_mut().filter(|p| !p.told)?;
        press.told = true;
        let key = press.key?;
        let duration_ms = press.ticks / (super::RATE / 1_000);
        self.refill(now);
        self.allowance = self.allowance.checked_sub(1)?;
        Some(Digit { key, duration_ms })
    }

    fn refill(&mut self, now: Duration) {
        let units = now.saturating_sub(self.filled).as_millis() / REFILL.as_millis();
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        self.filled += REFILL * units;
        self.allowance = self.allowance.saturating_add(units).min(BURST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn event(key: char, duration: u16, end: bool) -> TelephoneEvent {
        TelephoneEvent { event: TelephoneEvent::code_of(key).unwrap(), end, volume: 10, duration }
    }

    #[test]
    fn a_press_with_three_ends_is_one_digit() {
        let mut receiver = DigitReceiver::default();
        let mut told = Vec::new();
        for (at, duration, end) in
            [(0, 160, false), (20, 320, false), (40, 480, false), (60, 800, true), (61, 800, true), (62, 800, true)]
        {
            told.extend(receiver.packet(ms(at), 1, 5_000, event('7', duration, end)));
        }
        assert_eq!(told, [Digit { key: '7', duration_ms: 100 }]);
        assert_eq!(receiver.expire(ms(1_000)), None);
    }

    #[test]
    fn the_same_key_twice_is_two_digits() {
        let mut receiver = DigitReceiver::default();
        let first = receiver.packet(ms(0), 1, 100, event('1', 800, true));
        let second = receiver.packet(ms(150), 1, 1_300, event('1', 640, true));
        assert_eq!((first.unwrap().key, second.unwrap()), ('1', Digit { key: '1', duration_ms: 80 }));
    }

    #[test]
    fn lost_ends_are_made_up_for_by_time_or_by_the_next_press() {
        let mut receiver = DigitReceiver::default();
        assert_eq!(receiver.packet(ms(0), 1, 100, event('4', 640, false)), None);
        assert_eq!(receiver.deadline(), Some(ms(200)));
        assert_eq!(receiver.expire(ms(199)), None);
        assert_eq!(receiver.expire(ms(200)), Some(Digit { key: '4', duration_ms: 80 }));
        assert_eq!(receiver.packet(ms(201), 1, 100, event('4', 640, true)), None, "told already");
        assert_eq!(receiver.packet(ms(400), 1, 3_300, event('5', 480, false)), None);
        assert_eq!(receiver.packet(ms(460), 1, 4_000, event('6', 160, false)).map(|d| d.key), Some('5'));
    }

    #[test]
    fn late_packets_of_an_earlier_press_are_ignored() {
        let mut receiver = DigitReceiver::default();
        receiver.packet(ms(0), 1, 100, event('1', 800, true));
        receiver.packet(ms(150), 1, 1_300, event('2', 800, true));
        assert_eq!(receiver.packet(ms(151), 1, 100, event('1', 800, true)), None);
        assert_eq!(receiver.packet(ms(152), 1, 1_300, event('2', 800, true)), None);
    }

    #[test]
    fn a_flood_of_presses_is_thinned() {
        let mut receiver = DigitReceiver::default();
        let told =
            (0..1_000u32).filter_map(|n| receiver.packet(ms(u64::from(n)), 1, n * 8, event('9', 8, true))).count();
        assert!((32..=53).contains(&told), "{told}");
    }

    #[test]
    fn a_number_that_arrives_all_at_once_is_told_whole() {
        let mut receiver = DigitReceiver::default();
        let told: String = "00493012345678#"
            .chars()
            .enumerate()
            .filter_map(|(n, key)| receiver.packet(ms(5), 1, n as u32 * 1_600, event(key, 800, true)))
            .map(|digit| digit.key)
            .collect();
        assert_eq!(told, "00493012345678#");
    }

    #[test]
    fn tones_that_are_no_keys_are_not_told() {
        let mut receiver = DigitReceiver::default();
        let fax = TelephoneEvent { event: 36, end: true, volume: 0, duration: 800 };
        assert_eq!(receiver.packet(ms(0), 1, 1, fax), None);
    }

    #[test]
    fn a_stream_that_begins_anew_is_understood_from_its_first_press() {
        for (source, pause) in [(2, 150), (1, 1_200)] {
            let mut receiver = DigitReceiver::default();
            let first = receiver.packet(ms(0), 1, 0x8000_0000, event('1', 800, true));
            let second = receiver.packet(ms(pause), source, 160, event('2', 800, true));
            let again = receiver.packet(ms(pause + 20), source, 160, event('2', 800, true));
            assert_eq!((first.map(|d| d.key), second.map(|d| d.key), again), (Some('1'), Some('2'), None));
        }
    }
}
