//! Arithmetic on sequence numbers that wrap at 16 bits (RFC 3550 §5.1, RFC 1982 §3.2).

/// Whether `a` was sent after `b`, if less than half the space lies between them.
#[must_use]
pub const fn seq_newer(a: u16, b: u16) -> bool {
    let ahead = a.wrapping_sub(b);
    ahead != 0 && ahead < 0x8000
}

/// Turns wrapping sequence numbers into a count that never wraps.
///
/// The first packet lies in cycle 1, not 0, so that one which was overtaken by it still gets a smaller number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SeqExtender {
    highest: Option<u64>,
}

impl SeqExtender {
    #[must_use]
    pub const fn new() -> Self {
        Self { highest: None }
    }

    /// The extended number nearest to the highest seen; a newer one becomes the highest.
    pub fn extend(&mut self, sequence: u16) -> u64 {
        let Some(highest) = self.highest else {
            let first = 0x1_0000 | u64::from(sequence);
            self.highest = Some(first);
            return first;
        };
        let extended = self.peek(sequence);
        self.highest = Some(highest.max(extended));
        extended
    }

    /// As [`Self::extend`], leaving the highest as it is.
    #[must_use]
    pub fn peek(&self, sequence: u16) -> u64 {
        let Some(highest) = self.highest else { return 0x1_0000 | u64::from(sequence) };
        #[allow(clippy::cast_possible_truncation, reason = "the low 16 bits are what the wire carries")]
        let ahead = sequence.wrapping_sub(highest as u16);
        if ahead < 0x8000 {
            highest.saturating_add(u64::from(ahead))
        } else {
            highest.saturating_sub(0x1_0000 - u64::from(ahead))
        }
    }

    #[must_use]
    pub const fn highest(&self) -> Option<u64> {
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_holds_across_the_wrap_and_never_for_equals() {
        assert!(seq_newer(1, 0) && seq_newer(0, 0xFFFF) && seq_newer(0x7FFF, 0));
        assert!(!seq_newer(0, 0) && !seq_newer(0xFFFF, 0) && !seq_newer(0x8000, 0) && !seq_newer(0, 0x8000));
    }

    #[test]
    fn numbers_grow_through_wraps_and_take_reordering() {
        let mut extender = SeqExtender::new();
        let first = extender.extend(65_534);
        let got: Vec<u64> = [65_535, 1, 0, 2, 65_533].iter().map(|s| extender.extend(*s).wrapping_sub(first)).collect();
        assert_eq!(got, [1, 3, 2, 4, u64::MAX]);
        assert_eq!(extender.highest(), Some(first + 4));
    }

    #[test]
    fn a_packet_overtaken_by_the_very_first_is_smaller() {
        let mut extender = SeqExtender::new();
        let first = extender.extend(0);
        assert_eq!(extender.extend(65_535), first - 1);
    }

    #[test]
    fn ten_wraps_count_every_packet() {
        let mut extender = SeqExtender::new();
        let first = extender.extend(100);
        for count in 1..=655_360_u64 {
            #[allow(clippy::cast_possible_truncation)]
            let sequence = (100 + count) as u16;
            assert_eq!(extender.extend(sequence), first + count);
        }
    }
}
