//! Which 48-bit index a packet has, and whether it was seen before (RFC 3711 §3.3.1 and §3.3.2).

use crate::{REPLAY_WINDOW, SrtpError};

/// One source's highest index and the packets just below it. Changed only by what authenticated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexWindow {
    highest: u64,
    /// Bit n: `highest - n` was seen.
    seen: u128,
}

impl IndexWindow {
    /// Nothing seen yet; sequence numbers are taken to follow `highest`.
    pub(crate) const fn expecting(highest: u64) -> Self {
        Self { highest, seen: 0 }
    }

    /// The window after its first packet.
    pub(crate) const fn starting_at(index: u64) -> Self {
        Self { highest: index, seen: 1 }
    }

    /// The index with this sequence number that lies nearest to the highest.
    pub(crate) fn estimate(&self, sequence: u16) -> Result<u64, SrtpError> {
        let rollover = self.highest >> 16;
        let last = self.highest & 0xFFFF;
        let number = u64::from(sequence);
        let rollover = if last < 0x8000 {
            // RFC 3711 §3.3.1 would count back from zero to 2^32 - 1; there is no such packet, so the cycle stays.
            if number > last + 0x8000 { rollover.saturating_sub(1) } else { rollover }
        } else if last - 0x8000 > number {
            rollover + 1
        } else {
            rollover
        };
        if rollover > u64::from(u32::MAX) {
            return Err(SrtpError::KeyExhausted);
        }
        Ok((rollover << 16) | number)
    }

    pub(crate) const fn check(&self, index: u64) -> Result<(), SrtpError> {
        if index > self.highest {
            return Ok(());
        }
        let behind = self.highest - index;
        if behind >= REPLAY_WINDOW {
            Err(SrtpError::TooOld)
        } else if self.seen & (1 << behind) != 0 {
            Err(SrtpError::Replayed)
        } else {
            Ok(())
        }
    }

    /// Marks `index`, which passed [`Self::check`], as seen.
    pub(crate) const fn commit(&mut self, index: u64) {
        if index > self.highest {
            let ahead = index - self.highest;
            self.seen = if ahead < REPLAY_WINDOW { (self.seen << ahead) | 1 } else { 1 };
            self.highest = index;
        } else if self.highest - index < REPLAY_WINDOW {
            self.seen |= 1 << (self.highest - index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_cycle_is_guessed_on_both_sides_of_the_wrap() {
        let at = |highest: u64, sequence| IndexWindow::starting_at(highest).estimate(sequence).unwrap();
        assert_eq!(at(0x1_FFFF, 0), 0x2_0000);
        assert_eq!(at(0x2_0000, 0xFFFF), 0x1_FFFF);
        assert_eq!(at(0x2_7FFF, 0xFFFF), 0x2_FFFF);
        assert_eq!(at(0x2_7FFE, 0xFFFF), 0x1_FFFF);
        assert_eq!(at(0x2_8000, 0), 0x2_0000);
        assert_eq!(at(0x2_8001, 0), 0x3_0000);
    }

    #[test]
    fn the_first_cycle_is_never_counted_back_from() {
        assert_eq!(IndexWindow::starting_at(3).estimate(0xFFFF).unwrap(), 0xFFFF);
    }

    #[test]
    fn the_last_cycle_is_the_end_of_the_key() {
        let last = IndexWindow::starting_at((1 << 48) - 1);
        assert_eq!(last.estimate(0), Err(SrtpError::KeyExhausted));
        assert_eq!(last.estimate(0xFFFE), Ok((1 << 48) - 2));
    }

    #[test]
    fn each_index_passes_once_and_only_inside_the_window() {
        let mut window = IndexWindow::starting_at(1000);
        assert_eq!(window.check(1000), Err(SrtpError::Replayed));
        assert_eq!(window.check(873), Ok(()));
        assert_eq!(window.check(872), Err(SrtpError::TooOld));
        window.commit(873);
        assert_eq!(window.check(873), Err(SrtpError::Replayed));
        window.commit(1001);
        assert_eq!(window.check(873), Err(SrtpError::TooOld));
        assert_eq!(window.check(1000), Err(SrtpError::Replayed));
        window.commit(1001 + 127);
        assert_eq!(window.check(1001), Err(SrtpError::Replayed));
        window.commit(5000);
        assert_eq!((window.check(4999), window.check(1128)), (Ok(()), Err(SrtpError::TooOld)));
    }

    #[test]
    fn a_window_that_only_expects_takes_its_first_packet() {
        let mut window = IndexWindow::expecting(0x5_0000);
        assert_eq!(window.check(0x5_0000), Ok(()));
        window.commit(0x5_0000);
        assert_eq!(window.check(0x5_0000), Err(SrtpError::Replayed));
    }
}
