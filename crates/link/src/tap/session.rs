//! Who reads a Tap, pure: one reader at a time, the newer one wins; no reader for the patience time ends the Tap.
use std::time::Duration;

/// What the SFU is told about the reader of a Tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ReaderState {
    /// No reader has come yet.
    Waiting = 0,
    Attached = 1,
    /// It was here and may come back.
    Detached = 2,
    /// None came, or came back, in time: close the Tap and its beeps.
    Gone = 3,
    /// The Tap is closed; nothing more will be told.
    Finished = 4,
}

impl ReaderState {
    pub(super) const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Waiting,
            1 => Self::Attached,
            2 => Self::Detached,
            3 => Self::Gone,
            _ => Self::Finished,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Reader {
    Absent {
        since: Duration,
        ever: bool,
    },
    /// `silence` without a word counts as detached (a reader on another machine).
    Present {
        heard: Duration,
        silence: Option<Duration>,
    },
    Gone,
    Finished,
}

/// Each attachment has a generation; words of an older one are void.
#[derive(Debug)]
pub(super) struct Session {
    reader: Reader,
    generation: u64,
    patience: Duration,
}

impl Session {
    pub(super) fn new(now: Duration, patience: Duration) -> Self {
        Self { reader: Reader::Absent { since: now, ever: false }, generation: 0, patience }
    }

    pub(super) fn state(&self) -> ReaderState {
        match self.reader {
            Reader::Absent { ever: false, .. } => ReaderState::Waiting,
            Reader::Absent { ever: true, .. } => ReaderState::Detached,
            Reader::Present { .. } => ReaderState::Attached,
            Reader::Gone => ReaderState::Gone,
            Reader::Finished => ReaderState::Finished,
        }
    }

    /// The generation under which the new reader reads.
    pub(super) fn attach(&mut self, now: Duration, silence: Option<Duration>) -> u64 {
        self.generation += 1;
        if matches!(self.reader, Reader::Absent { .. } | Reader::Present { .. }) {
            self.reader = Reader::Present { heard: now, silence };
        }
        self.generation
    }

    pub(super) fn is_current(&self, generation: u64) -> bool {
        self.generation == generation
    }

    pub(super) fn heard(&mut self, generation: u64, now: Duration) {
        if self.is_current(generation)
            && let Reader::Present { heard, .. } = &mut self.reader
        {
            *heard = now;
        }
    }

    pub(super) fn detach(&mut self, generation: u64, now: Duration) {
        if self.is_current(generation) && matches!(self.reader, Reader::Present { .. }) {
            self.generation += 1;
            self.reader = Reader::Absent { since: now, ever: true };
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) {
        match self.reader {
            Reader::Present { heard, silence: Some(silence) } if now.saturating_sub(heard) >= silence => {
                self.detach(self.generation, heard);
            }
            Reader::Absent { since, .. } if now.saturating_sub(since) >= self.patience => self.reader = Reader::Gone,
            _ => {}
        }
    }

    pub(super) fn finish(&mut self) {
        self.reader = Reader::Finished;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn session() -> Session {
        Session::new(Duration::ZERO, 10 * SECOND)
    }

    #[test]
    fn ten_seconds_without_a_reader_end_the_tap() {
        let mut s = session();
        s.handle_timeout(9 * SECOND);
        assert_eq!(s.state(), ReaderState::Waiting);
        s.handle_timeout(10 * SECOND);
        assert_eq!(s.state(), ReaderState::Gone);
    }

    #[test]
    fn a_reader_that_comes_back_in_time_keeps_the_tap() {
        let mut s = session();
        let first = s.attach(SECOND, Some(4 * SECOND));
        s.detach(first, 2 * SECOND);
        assert_eq!(s.state(), ReaderState::Detached);
        s.handle_timeout(11 * SECOND);
        s.attach(11 * SECOND, Some(4 * SECOND));
        s.handle_timeout(14 * SECOND);
        assert_eq!(s.state(), ReaderState::Attached);
    }

    #[test]
    fn the_newer_reader_wins_and_the_older_ones_farewell_is_void() {
        let mut s = session();
        let first = s.attach(SECOND, Some(4 * SECOND));
        let second = s.attach(2 * SECOND, Some(4 * SECOND));
        s.detach(first, 3 * SECOND);
        assert!(!s.is_current(first) && s.is_current(second));
        assert_eq!(s.state(), ReaderState::Attached);
    }

    #[test]
    fn a_reader_that_acknowledges_nothing_counts_as_gone_since_its_last_word() {
        let mut s = session();
        let reader = s.attach(SECOND, Some(4 * SECOND));
        s.heard(reader, 3 * SECOND);
        s.handle_timeout(7 * SECOND);
        assert_eq!(s.state(), ReaderState::Detached);
        s.handle_timeout(13 * SECOND);
        assert_eq!(s.state(), ReaderState::Gone);
    }
}
