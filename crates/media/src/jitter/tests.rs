//! Stories of a jitter buffer in virtual time: 20 ms packets of one byte that names them.

use std::time::Duration;

use super::*;

const CLOCK: u32 = 8_000;
const STEP: u32 = 160;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A listener that pulls every 20 ms, and a sender whose packets arrive when the test says.
struct Story {
    buffer: JitterBuffer,
    heard: Vec<String>,
    ssrc: u32,
    base: u32,
    sequence_base: u16,
}

impl Story {
    fn new() -> Self {
        let buffer = JitterBuffer::fixed(CLOCK, ms(60));
        Self { buffer, heard: Vec::new(), ssrc: 1, base: 0xffff_fc00, sequence_base: 0xfff0 }
    }

    /// Packet `n` of the stream arrives at `at`.
    fn arrive(&mut self, at: u64, n: u16) -> Pushed {
        let packet = Arrival {
            sequence: self.sequence_base.wrapping_add(n),
            timestamp: self.base.wrapping_add(u32::from(n) * STEP),
            ssrc: self.ssrc,
            payload_type: 0,
            ticks: STEP,
            payload: &[n as u8],
        };
        self.buffer.push(ms(at), &packet)
    }

    fn tick(&mut self, at: u64) {
        let word = match self.buffer.pull(ms(at)) {
            Pull::Frame { payload, .. } => payload[0].to_string(),
            Pull::Missing { .. } => "?".into(),
            Pull::Empty => "-".into(),
        };
        self.heard.push(word);
    }

    /// Pulls every 20 ms while packets arrive as scheduled.
    fn run(&mut self, until: u64, mut arrivals: Vec<(u64, u16)>) {
        arrivals.sort_by_key(|a| a.0);
        let mut arrivals = arrivals.into_iter().peekable();
        for at in (10..until).step_by(20) {
            while let Some((when, n)) = arrivals.next_if(|a| a.0 <= at) {
                self.arrive(when, n);
            }
            self.tick(at);
        }
    }

    fn heard(&self) -> String {
        self.heard.join(" ")
    }
}

#[test]
fn a_steady_stream_plays_in_order_after_the_target_depth() {
    let mut s = Story::new();
    s.run(240, (0..9).map(|n| (u64::from(n) * 20, n)).collect());
    assert_eq!(s.heard(), "- - - 0 1 2 3 4 5 6 7 8");
    assert_eq!(s.buffer.counters().played, 9);
}

#[test]
fn reordered_packets_play_in_order_and_duplicates_once() {
    let mut s = Story::new();
    s.run(240, vec![(0, 1), (2, 0), (20, 2), (21, 2), (62, 3), (61, 4), (100, 5), (101, 6)]);
    assert_eq!(s.heard(), "- - - 0 1 2 3 4 5 6 ? ?");
    assert_eq!(s.buffer.counters().duplicate, 1);
}

#[test]
fn a_lost_packet_is_one_gap() {
    let mut s = Story::new();
    s.run(220, [0, 1, 2, 4, 5, 6, 7].map(|n| (u64::from(n) * 20, n)).to_vec());
    assert_eq!(s.heard(), "- - - 0 1 2 ? 4 5 6 7");
}

#[test]
fn a_packet_after_its_moment_is_dropped() {
    let mut s = Story::new();
    s.run(180, vec![(0, 0), (20, 1), (60, 3), (80, 4), (100, 5)]);
    assert_eq!(s.arrive(181, 2), Pushed::Late);
    assert_eq!(s.heard(), "- - - 0 1 ? 3 4 5");
}

#[test]
fn a_path_that_grows_longer_delays_instead_of_losing() {
    let mut s = Story::new();
    let arrivals = (0..40).map(|n| (u64::from(n) * 20 + if n < 10 { 0 } else { 85 }, n)).collect();
    s.run(1_000, arrivals);
    let played = s.heard.iter().filter(|h| *h != "?" && *h != "-").count();
    assert_eq!(played, 40, "{}", s.heard());
    assert!(s.heard.iter().filter(|h| *h == "?").count() <= 7, "{}", s.heard());
}

#[test]
fn a_pause_is_silence_and_the_next_word_waits_its_depth_again() {
    let mut s = Story::new();
    let mut arrivals: Vec<_> = (0..3).map(|n| (u64::from(n) * 20, n)).collect();
    arrivals.extend((30..33).map(|n| (u64::from(n) * 20, n)));
    s.run(740, arrivals);
    assert!(s.heard().starts_with("- - - 0 1 2 ? ? ? ? ? - - -"), "{}", s.heard());
    assert!(s.heard().contains("- - 30 31 32"), "{}", s.heard());
}

#[test]
fn a_new_source_takes_over_and_one_stray_packet_does_not() {
    let mut s = Story::new();
    s.run(120, (0..6).map(|n| (u64::from(n) * 20, n)).collect());
    s.ssrc = 99;
    assert_eq!(s.arrive(120, 60), Pushed::Held);
    s.ssrc = 1;
    assert_eq!(s.arrive(121, 6), Pushed::Stored, "the old source goes on");
    s.ssrc = 7;
    s.base = 5;
    assert_eq!(s.arrive(140, 100), Pushed::Held);
    assert_eq!(s.arrive(160, 101), Pushed::Restarted);
    s.heard.clear();
    for at in (180..300).step_by(20) {
        s.tick(at);
    }
    assert_eq!(s.heard(), "- - 100 101 ? ?");
}

#[test]
fn a_jump_of_the_timestamp_restarts_at_once_when_the_sequence_runs_on() {
    let mut s = Story::new();
    s.run(120, (0..6).map(|n| (u64::from(n) * 20, n)).collect());
    for jump in [0x4000_0000u32, 0x9000_0000] {
        s.base = s.base.wrapping_add(jump);
        assert_eq!(s.arrive(120, 6), Pushed::Restarted);
        s.buffer.reset(CLOCK);
        assert_eq!(s.arrive(130, 5), Pushed::Restarted);
    }
}

#[test]
fn a_burst_after_a_stall_is_trimmed_back() {
    let mut s = Story::new();
    let mut arrivals: Vec<_> = (0..10).map(|n| (u64::from(n) * 20, n)).collect();
    arrivals.extend((10..40).map(|n| (800, n)));
    arrivals.extend((40..200).map(|n| (u64::from(n) * 20, n)));
    s.run(4_000, arrivals);
    assert!(s.buffer.depth_ms() <= 120, "{} ms", s.buffer.depth_ms());
    assert!(s.buffer.counters().skipped > 10);
}

#[test]
fn a_sender_whose_clock_runs_fast_never_fills_the_buffer() {
    let mut s = Story::new();
    // 0.5 % fast for two minutes: 600 ms too much in all.
    let arrivals = (0..6_000u32).map(|n| (u64::from(n) * 199 / 10, n as u16)).collect();
    s.run(119_000, arrivals);
    let counters = s.buffer.counters();
    assert_eq!(counters.overflow, 0);
    assert!((20..60).contains(&counters.skipped), "{counters:?}");
    assert!(s.buffer.depth_ms() <= 140);
}

#[test]
fn a_sender_whose_clock_runs_slow_is_not_lost() {
    let mut s = Story::new();
    let arrivals = (0..5_900u32).map(|n| (u64::from(n) * 201 / 10, n as u16)).collect();
    s.run(118_000, arrivals);
    let counters = s.buffer.counters();
    assert!(counters.late < 10 && counters.played > 5_800, "{counters:?}");
}

#[test]
fn garbage_is_refused_and_memory_stays_bounded() {
    let mut b = JitterBuffer::fixed(CLOCK, ms(60));
    let packet = |payload, ticks| Arrival { sequence: 0, timestamp: 0, ssrc: 1, payload_type: 0, ticks, payload };
    assert_eq!(b.push(ms(0), &packet(&[], STEP)), Pushed::Refused);
    assert_eq!(b.push(ms(0), &packet(&[0; 2_000], STEP)), Pushed::Refused);
    assert_eq!(b.push(ms(0), &packet(&[0], 0)), Pushed::Refused);
    assert_eq!(b.push(ms(0), &packet(&[0], CLOCK + 1)), Pushed::Refused);
    let mut state = 3u32;
    for n in 0..20_000u64 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let arrival = Arrival {
            sequence: (state >> 3) as u16,
            timestamp: if state & 1 == 0 { state } else { n as u32 * 80 },
            ssrc: state >> 30,
            payload_type: 0,
            ticks: 1 + (state >> 20) % 400,
            payload: &[1; 33],
        };
        b.push(ms(n), &arrival);
        if n % 7 == 0 {
            b.pull(ms(n));
        }
        assert!(b.depth_ms() < 200_000);
    }
}
