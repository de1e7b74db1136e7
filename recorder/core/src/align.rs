//! Where each packet of a run belongs on the recording's time line, from its arrival and its RTP timestamp.
//!
//! A packet never arrives before it is sent, so the least delay seen is the truth and everything above it is the
//! network: the offset between the two clocks is the lower envelope of `arrival - timestamp` over windows of 10 s,
//! between which it may rise or fall only as fast as bad clocks drift. A sender whose timestamps jump, or whose clock
//! stood still, begins a new piece with an envelope of its own.

const NS: i64 = 1_000_000_000;
const WINDOW_NS: i64 = 10 * NS;
/// Clocks differ by some 100 ppm; the envelope may lean three times as much.
const MAX_SLOPE_PPM: i64 = 300;
/// A lasting change of delay by more than this is a jump of the sender's clock and no jitter.
const JUMP_NS: i64 = 200_000_000;
/// Timestamps that go back, or further ahead than this, tell nothing of how much time passed.
const LEAP_NS: i64 = 60 * NS;
/// How long a rise must last to be believed: queues drain faster.
const PROOF_NS: i64 = 5 * NS;

/// A point of the envelope: at this moment of the sender's time the offset is so much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    at: i64,
    offset: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    first: usize,
    points: Vec<Point>,
}

impl Piece {
    fn begin(first: usize, at: i64, offset: i64) -> Self {
        Self { first, points: vec![Point { at, offset }] }
    }

    /// One point for each window: the least offset in it.
    fn lower(&mut self, at: i64, offset: i64) {
        match self.points.last_mut() {
            Some(last) if at.div_euclid(WINDOW_NS) == last.at.div_euclid(WINDOW_NS) => {
                if offset < last.offset {
                    *last = Point { at, offset };
                }
            }
            _ => self.points.push(Point { at, offset }),
        }
    }

    /// The offset to be expected now.
    fn level(&self) -> i64 {
        self.points.iter().rev().take(2).map(|point| point.offset).min().unwrap_or(0)
    }

    fn level_out(&mut self) {
        let lean = |from: &Point, to: &Point| from.offset + (to.at - from.at).abs() / 1_000_000 * MAX_SLOPE_PPM;
        for index in 1..self.points.len() {
            if let Some([before, here]) = self.points.get_mut(index - 1..=index) {
                here.offset = here.offset.min(lean(before, here));
            }
        }
        for index in (1..self.points.len()).rev() {
            if let Some([here, after]) = self.points.get_mut(index - 1..=index) {
                here.offset = here.offset.min(lean(after, here));
            }
        }
    }

    fn offset(&self, at: i64) -> i64 {
        let after = self.points.partition_point(|point| point.at <= at);
        let before = after.checked_sub(1).and_then(|index| self.points.get(index));
        match (before, self.points.get(after)) {
            (Some(a), Some(b)) => {
                let share = i128::from(b.offset - a.offset) * i128::from(at - a.at) / i128::from((b.at - a.at).max(1));
                a.offset + i64::try_from(share).unwrap_or(0)
            }
            (Some(only), None) | (None, Some(only)) => only.offset,
            (None, None) => 0,
        }
    }
}

/// A rise that may be a jump.
#[derive(Debug)]
struct Suspect {
    piece: Piece,
    since_arrival: i64,
}

/// Takes the packets of a run in the order in which they stand in its file.
#[derive(Debug)]
pub struct Aligner {
    clock_rate: i64,
    count: usize,
    /// The last timestamp and what it is in ticks since the first.
    last: Option<(u32, i64)>,
    pieces: Vec<Piece>,
    suspect: Option<Suspect>,
}

impl Aligner {
    pub fn new(clock_rate_hz: u32) -> Self {
        let clock_rate = i64::from(clock_rate_hz.max(1));
        Self { clock_rate, count: 0, last: None, pieces: Vec::new(), suspect: None }
    }

    pub fn push(&mut self, media_ns: u64, timestamp: u32) {
        let (ticks, step) = unwrap_timestamp(&mut self.last, timestamp, self.clock_rate);
        let at = ticks_to_ns(ticks, self.clock_rate);
        let arrival = i64::try_from(media_ns).unwrap_or(i64::MAX / 2);
        let offset = arrival - at;
        let index = self.count;
        self.count += 1;
        let (Some(piece), Some(step)) = (self.pieces.last_mut(), step) else {
            self.suspect = None;
            self.pieces.push(Piece::begin(index, at, offset));
            return;
        };
        if let Some(suspect) = self.suspect.take_if(|suspect| arrival - suspect.since_arrival >= PROOF_NS) {
            self.pieces.push(suspect.piece);
            return self.extend(index, at, offset, arrival);
        }
        let level = piece.level();
        let leapt = ticks_to_ns(step, self.clock_rate).abs() > JUMP_NS;
        if offset < level - JUMP_NS && leapt {
            self.suspect = None;
            self.pieces.push(Piece::begin(index, at, offset));
            return;
        }
        self.extend(index, at, offset, arrival);
    }

    fn extend(&mut self, index: usize, at: i64, offset: i64, arrival: i64) {
        let Some(piece) = self.pieces.last_mut() else { return };
        if offset <= piece.level() + JUMP_NS {
            self.suspect = None;
            piece.lower(at, offset);
            return;
        }
        match &mut self.suspect {
            Some(suspect) => suspect.piece.lower(at, offset),
            None => {
                self.suspect = Some(Suspect { piece: Piece::begin(index, at, offset), since_arrival: arrival });
            }
        }
    }

    pub fn finish(mut self) -> Alignment {
        self.pieces.extend(self.suspect.take().map(|suspect| suspect.piece));
        self.pieces.iter_mut().for_each(Piece::level_out);
        Alignment { pieces: self.pieces, clock_rate: self.clock_rate, last: None, count: 0 }
    }
}

/// The packets' places, asked for in the same order in which the aligner took them.
#[derive(Debug, Clone)]
pub struct Alignment {
    pieces: Vec<Piece>,
    clock_rate: i64,
    last: Option<(u32, i64)>,
    count: usize,
}

impl Alignment {
    /// When the next packet's first sample belongs, in nanoseconds of the Tap's clock.
    pub fn place(&mut self, timestamp: u32) -> i64 {
        let (ticks, _) = unwrap_timestamp(&mut self.last, timestamp, self.clock_rate);
        let index = self.count;
        self.count += 1;
        let at = ticks_to_ns(ticks, self.clock_rate);
        let piece = self.pieces.partition_point(|piece| piece.first <= index).saturating_sub(1);
        at + self.pieces.get(piece).map_or(0, |piece| piece.offset(at))
    }
}

/// The ticks since the sender's last leap, and those since the packet before; `None` after a leap, where they begin
/// anew, so that they stay small whatever a sender does.
fn unwrap_timestamp(last: &mut Option<(u32, i64)>, timestamp: u32, clock_rate: i64) -> (i64, Option<i64>) {
    let step = last.map(|(before, ticks)| (ticks, i64::from(timestamp.wrapping_sub(before).cast_signed())));
    let step = step.filter(|(_, step)| (0..=LEAP_NS / NS * clock_rate).contains(step));
    let ticks = step.map_or(0, |(ticks, step)| ticks + step);
    *last = Some((timestamp, ticks));
    (ticks, step.map(|(_, step)| step))
}

fn ticks_to_ns(ticks: i64, clock_rate: i64) -> i64 {
    let whole = ticks.div_euclid(clock_rate) * NS;
    whole + ticks.rem_euclid(clock_rate) * NS / clock_rate
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// Packets of 20 ms at 8 kHz: (true sending time, timestamp, arrival).
    struct Sender {
        ppm: i64,
        seed: u64,
        jitter_ns: u64,
    }

    impl Sender {
        fn random(&mut self) -> u64 {
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 7;
            self.seed ^= self.seed << 17;
            self.seed
        }
        /// `n`: packet count since the start.
        fn packet(&mut self, n: i64) -> (i64, u32, u64) {
            let sent = n * 20 * MS + n * 20 * MS / 1_000_000 * self.ppm;
            let jitter = i64::try_from(self.random() % self.jitter_ns.max(1)).unwrap();
            let timestamp = (7_u32).wrapping_sub(500).wrapping_add(u32::try_from(n * 160 % (1 << 32)).unwrap());
            (sent, timestamp, u64::try_from(1_000 * MS + sent + jitter).unwrap())
        }
    }

    fn worst_error(packets: &[(i64, u32, u64)]) -> i64 {
        let mut aligner = Aligner::new(8_000);
        packets.iter().for_each(|(_, timestamp, arrival)| aligner.push(*arrival, *timestamp));
        let mut alignment = aligner.finish();
        let error = |(sent, timestamp, _): &(i64, u32, u64)| (alignment.place(*timestamp) - 1_000 * MS - sent).abs();
        packets.iter().map(error).max().unwrap()
    }

    #[test]
    fn clocks_that_drift_stay_within_five_milliseconds_over_ten_hours() {
        for ppm in [-100, 0, 100] {
            let mut sender = Sender { ppm, seed: 7, jitter_ns: 60 * 1_000_000 };
            let packets: Vec<_> = (0..10 * 3_600 * 50).map(|n| sender.packet(n)).collect();
            let error = worst_error(&packets);
            assert!(error < 5 * MS, "{ppm} ppm: {error} ns");
        }
    }

    #[test]
    fn a_stalled_network_shifts_nothing() {
        let mut sender = Sender { ppm: 50, seed: 3, jitter_ns: 20 * 1_000_000 };
        let mut packets: Vec<_> = (0..3_000).map(|n| sender.packet(n)).collect();
        // Everything sent from 20 s to 23 s arrives at 23 s; and the first half second is late as well.
        for (sent, _, arrival) in &mut packets {
            if (20_000 * MS..23_000 * MS).contains(sent) {
                *arrival = u64::try_from(24_000 * MS).unwrap();
            }
            if *sent < 500 * MS {
                *arrival = u64::try_from(1_500 * MS).unwrap();
            }
        }
        let error = worst_error(&packets);
        assert!(error < 10 * MS, "{error}");
    }

    #[test]
    fn silence_without_packets_keeps_its_length() {
        let mut sender = Sender { ppm: 0, seed: 3, jitter_ns: 30 * 1_000_000 };
        let packets: Vec<_> = (0..3_000).filter(|n| !(500..1_900).contains(n)).map(|n| sender.packet(n)).collect();
        assert!(worst_error(&packets) < 10 * MS);
    }

    #[test]
    fn a_sender_whose_clock_stood_still_or_leapt_is_placed_by_arrival() {
        let mut sender = Sender { ppm: 0, seed: 9, jitter_ns: 20 * 1_000_000 };
        let mut packets: Vec<_> = (0..3_000).map(|n| sender.packet(n)).collect();
        for (n, (sent, timestamp, arrival)) in packets.iter_mut().enumerate() {
            if n >= 1_000 {
                // Twelve seconds pass without the timestamp moving.
                *sent += 12_000 * MS;
                *arrival += 12_000_000_000;
            }
            if n >= 2_000 {
                // The timestamp leaps twenty seconds, time does not.
                *timestamp = timestamp.wrapping_add(160_000);
            }
        }
        let error = worst_error(&packets);
        assert!(error < 20 * MS, "{error}");
    }

    #[test]
    fn a_sender_that_counts_down_or_leaps_with_each_packet_is_placed_by_arrival() {
        for stride in [u32::MAX - 159, 0x7fff_ffff, 0x8000_0000] {
            let packets: Vec<_> = (0..50_000_u32)
                .map(|n| (i64::from(n) * 20 * MS, n.wrapping_mul(stride)))
                .map(|(sent, timestamp)| (sent, timestamp, u64::try_from(sent + 1_000 * MS).unwrap()))
                .collect();
            assert!(worst_error(&packets) < 20 * MS, "{stride:x}");
        }
    }

    #[test]
    fn short_bursts_are_placed_by_their_own_arrival() {
        // An announcer: ten packets every 15 s.
        let packets: Vec<_> = (0..20_i64)
            .flat_map(|burst| (0..10).map(move |n| burst * 15_000 * MS + n * 20 * MS))
            .map(|sent| {
                let ticks = u32::try_from(sent / MS * 8).unwrap();
                (sent, ticks, u64::try_from(sent + 1_000 * MS).unwrap())
            })
            .collect();
        assert!(worst_error(&packets) < MS);
        // The same from a sender whose timestamps do not count the pauses.
        let counted: Vec<_> = packets.iter().zip(0_u32..).map(|((sent, _, at), n)| (*sent, n * 160, *at)).collect();
        assert!(worst_error(&counted) < 20 * MS);
    }
}
