//! Senders that leap in time or change their codec with every packet: few files, nothing lost.
use super::{LiveSegment, SegmentStart};
use crate::input::{Packet, TapInput, Voice};
use crate::recover::{Cut, SegmentRead, cut_run};
use crate::timeline::{self, Opened};
use offhook_contract::{BootId, CallId, CodecName, LegId, RecordingId, TenantId, UnixMs};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const FRAME_NS: u64 = 20_000_000;
const PACKETS: u16 = 2_000;

struct Segment {
    live: LiveSegment,
    files: BTreeMap<String, Vec<u8>>,
    number: u64,
}

impl Segment {
    fn begin(tracks: u16) -> Self {
        let opened = Opened {
            version: Opened::VERSION,
            recording: RecordingId::parse("rec").unwrap(),
            call: CallId::parse("call").unwrap(),
            tenant: TenantId::parse("tenant").unwrap(),
            segment: 1,
            clock: BootId::parse("boot").unwrap(),
            media_ns: 0,
            wall: UnixMs(0),
            resume_after: 0,
            gap_ns: 0,
        };
        let voice = || Voice::Leg(LegId::parse("caller").unwrap());
        let tracks = (0..tracks).map(|track| (track, voice())).collect();
        let live = LiveSegment::begin(SegmentStart { opened, tracks, skip: BTreeSet::new() });
        Self { live, files: BTreeMap::new(), number: 0 }
    }

    fn send(&mut self, track: u16, codec: CodecName, sequence: u16, timestamp: u32) {
        let payload: &[u8] = if codec == CodecName::Opus { &[0xf8, 0xff, 0xfe] } else { &[0xff; 160] };
        let media_ns = u64::from(sequence) * FRAME_NS;
        self.number += 1;
        let packet = Packet { track, media_ns, codec, sequence, timestamp, payload };
        let now = Duration::from_nanos(media_ns);
        self.live.handle_record(self.number, &TapInput::Packet(packet), now);
        if self.live.flush_due().is_some_and(|due| due <= now) {
            self.flush(now, false);
        }
    }

    fn flush(&mut self, now: Duration, last: bool) {
        for append in self.live.flush(now, last).appends {
            self.files.entry(append.file).or_default().extend(append.bytes);
        }
    }

    /// Ends it; every file must hold what the sidecar says of it and no more.
    fn read(mut self) -> SegmentRead {
        self.flush(Duration::from_secs(1_000), true);
        let read = SegmentRead::read(&self.files[timeline::FILE_NAME]).unwrap();
        assert_eq!(read.runs.len() + 1, self.files.len());
        for run in &read.runs {
            let bytes = &self.files[&run.file];
            let whole = Cut { keep_bytes: bytes.len(), append: Vec::new() };
            assert_eq!(cut_run(run, bytes), Some(whole), "{}", run.file);
        }
        read
    }
}

/// Each packet is there once, in one of the track's files, in order.
fn check_whole(read: &SegmentRead, track: u16) {
    let mut all = Vec::new();
    for run in read.runs.iter().filter(|run| run.track == track) {
        assert!(run.entries.is_sorted_by_key(|entry| entry.sequence), "{}", run.file);
        all.extend(run.entries.iter().map(|entry| entry.sequence));
    }
    all.sort_unstable();
    assert_eq!(all, (0..PACKETS).collect::<Vec<_>>());
}

#[test]
fn a_party_that_changes_its_codec_with_each_packet_makes_few_files_and_loses_nothing() {
    let mut segment = Segment::begin(1);
    for n in 0..PACKETS {
        let codec = [CodecName::Opus, CodecName::Pcmu, CodecName::Pcma][usize::from(n % 3)];
        segment.send(0, codec, n, u32::from(n) * 960);
    }
    assert_eq!(segment.live.losses().missing, 0);
    let read = segment.read();
    assert!(read.runs.len() <= 70, "{}", read.runs.len());
    check_whole(&read, 0);
}

#[test]
fn a_party_whose_timestamps_count_down_or_leap_makes_few_files_and_loses_nothing() {
    for codec in [CodecName::Opus, CodecName::Pcma] {
        let mut segment = Segment::begin(2);
        for n in 0..PACKETS {
            segment.send(0, codec, n, 1_000_u32.wrapping_sub(u32::from(n) * 160));
            segment.send(1, codec, n, u32::from(n).wrapping_mul(0x4000_0001));
        }
        let read = segment.read();
        assert!(read.runs.len() <= 140, "{}", read.runs.len());
        check_whole(&read, 0);
        check_whole(&read, 1);
    }
}

#[test]
fn a_party_whose_timestamps_leap_ahead_is_filled_up_no_further_than_time_passes() {
    let mut segment = Segment::begin(1);
    for n in 0..PACKETS {
        segment.send(0, CodecName::Opus, n, u32::from(n).wrapping_mul(29 * 48_000));
    }
    let read = segment.read();
    check_whole(&read, 0);
    let filled: u64 = read.runs.iter().map(|run| run.packets_in_file() - run.entries.len() as u64).sum();
    assert!(filled < 66 * 30 * 50 + u64::from(PACKETS), "{filled} for {PACKETS} packets");
}

#[test]
fn many_tracks_share_what_a_segment_has_of_files() {
    let mut segment = Segment::begin(200);
    for n in 0..PACKETS / 10 {
        for track in 0..200 {
            segment.send(track, CodecName::Pcmu, n, u32::from(n).wrapping_mul(0x4000_0001));
        }
    }
    let read = segment.read();
    assert!(read.runs.len() <= 2_048 + 200, "{}", read.runs.len());
    assert_eq!(read.packets(), 200 * u64::from(PACKETS / 10));
}
