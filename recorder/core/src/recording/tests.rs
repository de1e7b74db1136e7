//! A recording's life in virtual time, with a Tap that is a list and a disk that is a map.
use super::*;
use crate::input::{Packet, Voice};
use crate::recover::{SegmentRead, cut_consent, cut_run};
use crate::{consent, timeline};
use offhook_contract::{BootId, CodecName, Secret};
use std::collections::{BTreeMap, HashMap};

const MS: u64 = 1_000_000;
const ORIGIN: u64 = 5_000 * MS;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn id<T: TryFrom<String>>(text: &str) -> T {
    T::try_from(text.to_owned()).unwrap_or_else(|_| panic!("{text}"))
}

fn plan() -> RecordingPlan {
    RecordingPlan {
        recording: id("rec"),
        tenant: id("tenant"),
        call: id("call"),
        epoch: None,
        tap: TapOffer {
            recording: id("rec"),
            addresses: Vec::new(),
            fingerprint: String::new(),
            token: Secret::new("t"),
        },
        caller_legs: vec![id("caller")],
        answered_ms: UnixMs(1_000_000),
    }
}

fn hello() -> TapInput<'static> {
    TapInput::Hello {
        recording: id("rec"),
        call: id("call"),
        tenant: id("tenant"),
        clock: id::<BootId>("boot"),
        media_ns: ORIGIN,
        wall: UnixMs(2_000_000),
    }
}

fn track(track: u16) -> TapInput<'static> {
    TapInput::Track { track, voice: Voice::Leg(id("caller")), at_ns: ORIGIN }
}

static PAYLOAD: [u8; 160] = [0xff; 160];

/// The packet with this sequence number, which arrives at `at_ms`.
fn packet(track: u16, sequence: u16, at_ms: u64) -> TapInput<'static> {
    TapInput::Packet(Packet {
        track,
        media_ns: ORIGIN + at_ms * MS,
        codec: CodecName::Pcmu,
        sequence,
        timestamp: u32::from(sequence) * 160,
        payload: &PAYLOAD,
    })
}

#[derive(Default, Clone)]
struct Disk {
    files: BTreeMap<(u32, String), Vec<u8>>,
    consent: Vec<u8>,
    /// The appends of the last flush: which file (the consent log has none) and how much, for a death among them.
    flush: Vec<(Option<(u32, String)>, usize)>,
    confirmed: bool,
    facts_before: usize,
}

struct Scenario {
    recording: Recording,
    disk: Disk,
    facts: Vec<Fact>,
    dials: Vec<u64>,
    finalised: bool,
    done: Option<bool>,
    now: Duration,
}

impl Scenario {
    fn start() -> Self {
        Self::with(Recording::start(plan(), ms(0)), Disk::default())
    }

    fn with(recording: Recording, disk: Disk) -> Self {
        let (facts, dials) = (Vec::new(), Vec::new());
        let mut s = Self { recording, disk, facts, dials, finalised: false, done: None, now: ms(0) };
        s.obey();
        s
    }

    fn connected() -> Self {
        let mut s = Self::start();
        s.recording.handle_connected();
        s.tell(1, &hello());
        s.tell(2, &track(1));
        s
    }

    fn tell(&mut self, number: u64, input: &TapInput<'_>) {
        self.recording.handle_record(number, input, self.now).unwrap();
        self.obey();
    }

    fn at(&mut self, at: Duration) -> &mut Self {
        while let Some(due) = self.recording.poll_timeout().filter(|due| *due <= at) {
            self.now = due.max(self.now);
            self.recording.handle_timeout(self.now);
            self.obey();
        }
        self.now = at;
        self
    }

    fn obey(&mut self) {
        while let Some(output) = self.recording.poll_output() {
            match output {
                Output::Dial { resume_after } => self.dials.push(resume_after),
                Output::Append { segment, append } => {
                    let place = (segment, append.file);
                    self.note(Some(place.clone()), append.bytes.len());
                    self.disk.files.entry(place).or_default().extend(append.bytes);
                }
                Output::AppendConsent(bytes) => {
                    self.note(None, bytes.len());
                    self.disk.consent.extend(bytes);
                }
                Output::Barrier(number) => {
                    self.disk.confirmed = true;
                    self.recording.handle_written(number);
                }
                Output::Fact { fact, number } => {
                    self.facts.push(fact);
                    if let Some(number) = number {
                        self.recording.handle_told(number);
                    }
                }
                Output::Finalise => self.finalised = true,
                Output::Done { failed } => self.done = Some(failed),
                Output::HangUp | Output::BeginSegment { .. } | Output::Sync => {}
            }
        }
    }

    fn note(&mut self, place: Option<(u32, String)>, length: usize) {
        if std::mem::take(&mut self.disk.confirmed) {
            self.disk.flush.clear();
            self.disk.facts_before = self.facts.len();
        }
        self.disk.flush.push((place, length));
    }

    fn segment(&self, segment: u32) -> SegmentRead {
        SegmentRead::read(&self.disk.files[&(segment, timeline::FILE_NAME.to_owned())]).unwrap()
    }

    fn sequences(&self, segment: u32) -> Vec<u16> {
        self.segment(segment).runs.iter().flat_map(|run| run.entries.iter().map(|entry| entry.sequence)).collect()
    }
}

#[test]
fn accepted_audio_is_on_disk_within_half_a_second() {
    let mut s = Scenario::connected();
    for n in 0..200_u16 {
        s.at(ms(u64::from(n) * 20)).tell(u64::from(n) + 3, &packet(1, n, u64::from(n) * 20));
        let written = if n < 26 { 0 } else { s.segment(1).packets() };
        assert!(u64::from(n) + 1 - written <= 26, "{n}: {written}");
    }
    assert_eq!(s.facts, [Fact::SegmentStarted { recording: id("rec"), segment: 1 }]);
}

#[test]
fn a_packet_repaired_in_time_finds_its_place_and_a_later_one_is_counted() {
    let mut s = Scenario::connected();
    let order = [0, 1, 3, 4, 2, 5, 7, 8];
    for (n, sequence) in (3..).zip(order) {
        s.tell(n, &packet(1, sequence, u64::from(sequence) * 20));
    }
    s.at(ms(600)).at(ms(1_200)).tell(11, &packet(1, 6, 130));
    s.tell(12, &packet(1, 8, 170));
    s.tell(13, &packet(1, 9, 180));
    s.at(ms(2_000));
    assert_eq!(s.sequences(1), [0, 1, 2, 3, 4, 5, 7, 8, 9]);
    let losses = s.recording.losses();
    assert_eq!((losses.missing, losses.late, losses.duplicate), (1, 1, 1));
}

#[test]
fn a_codec_switch_a_long_silence_and_a_restarted_sender_begin_new_runs() {
    let mut s = Scenario::connected();
    let mut number = 2;
    let mut send = |s: &mut Scenario, codec, sequence, timestamp| {
        number += 1;
        let payload: &[u8] = if codec == CodecName::Opus { &[0xf8, 0xff, 0xfe] } else { &PAYLOAD };
        let media_ns = ORIGIN + number * 20 * MS;
        s.tell(number, &TapInput::Packet(Packet { track: 1, media_ns, codec, sequence, timestamp, payload }));
    };
    send(&mut s, CodecName::Opus, 10, 1_000);
    send(&mut s, CodecName::Opus, 11, 1_960);
    send(&mut s, CodecName::Pcmu, 12, 2_920);
    send(&mut s, CodecName::Opus, 13, 3_080);
    send(&mut s, CodecName::Opus, 14, 3_080 + 29 * 48_000);
    send(&mut s, CodecName::Opus, 15, 3_080 + 80 * 48_000);
    send(&mut s, CodecName::Opus, 40_000, 5);
    s.at(ms(1_000));
    let runs = s.segment(1).runs;
    let seen: Vec<_> = runs.iter().map(|run| (run.codec, run.entries.len())).collect();
    use CodecName::{Opus, Pcmu};
    assert_eq!(seen, [(Opus, 2), (Pcmu, 1), (Opus, 2), (Opus, 1), (Opus, 1)]);
    let filled: u32 = runs[2].entries.iter().map(|entry| u32::from(entry.fill)).sum();
    assert_eq!(filled, 29 * 50 - 1, "silence up to half a minute is filled, so that any player keeps time");
}

#[test]
fn what_is_no_packet_of_its_codec_is_counted_and_left_out() {
    let mut s = Scenario::connected();
    let empty = Packet { track: 1, media_ns: 0, codec: CodecName::Opus, sequence: 1, timestamp: 0, payload: &[] };
    s.tell(3, &TapInput::Packet(empty));
    s.tell(4, &TapInput::Packet(Packet { track: 99, ..empty }));
    s.at(ms(1_000));
    assert_eq!(s.recording.losses().malformed, 1);
    assert_eq!(s.segment(1).packets(), 0);
}

#[test]
fn a_hole_of_a_second_in_the_tap_begins_a_new_segment_and_a_shorter_one_does_not() {
    let mut s = Scenario::connected();
    s.tell(3, &packet(1, 0, 0));
    s.tell(13, &TapInput::Gap { packets: 10, first_ns: ORIGIN, last_ns: ORIGIN + 200 * MS });
    s.tell(14, &packet(1, 11, 220));
    s.tell(100_000_000, &TapInput::Gap { packets: 100, first_ns: ORIGIN, last_ns: ORIGIN + 2_000 * MS });
    s.tell(100_000_001, &packet(1, 111, 2_220));
    s.at(ms(1_000));
    assert_eq!((s.sequences(1), s.sequences(2)), (vec![0, 11], vec![111]));
    assert_eq!((s.segment(1).gaps.len(), s.segment(2).gaps.len()), (1, 1));
    assert_eq!(s.segment(2).opened.gap_ns, 2_000 * MS);
    let started = s.facts.iter().filter(|fact| matches!(fact, Fact::SegmentStarted { .. })).count();
    assert_eq!(started, 2);
}

#[test]
fn beeps_are_told_once_they_are_on_disk_and_never_before() {
    let mut s = Scenario::connected();
    s.tell(3, &packet(1, 0, 0));
    let kind = ConsentKind::Beep;
    s.tell(4, &TapInput::AnnouncementStarted { kind, at_ns: ORIGIN + 100 * MS });
    s.tell(5, &TapInput::AnnouncementEnded { kind, at_ns: ORIGIN + 300 * MS });
    assert_eq!(s.facts, []);
    s.at(ms(500));
    let played_ms = UnixMs(2_000_100);
    assert_eq!(s.facts[1], Fact::ConsentPlayed { recording: id("rec"), segment: 1, kind, played_ms });
    let log = consent::read(&s.disk.consent);
    let event = ConsentEvent::Played { announcement: kind, ended_ms: UnixMs(2_000_300) };
    assert_eq!(
        log.lines.iter().map(|line| line.event.clone()).collect::<Vec<_>>(),
        [ConsentEvent::RecordingStarted, event]
    );
}

#[test]
fn a_broken_connection_is_resumed_after_the_last_record_in_the_same_segment() {
    let mut s = Scenario::connected();
    s.tell(3, &packet(1, 0, 0));
    s.at(ms(700)).recording.handle_lost(ms(700));
    s.obey();
    assert_eq!(s.dials, [0, 3]);
    s.recording.handle_dial_failed(false, ms(700));
    s.at(ms(5_000)).recording.handle_connected();
    s.tell(4, &packet(1, 1, 20));
    s.tell(5, &TapInput::Closed { reason: CloseReason::Requested, at_ns: ORIGIN + 40 * MS });
    assert_eq!(s.sequences(1), [0, 1]);
    assert!(s.finalised);
}

#[test]
fn a_tap_that_does_not_come_back_is_finished_with_what_there_is() {
    let mut s = Scenario::connected();
    s.tell(3, &packet(1, 0, 0));
    s.at(ms(1_000)).recording.handle_lost(ms(1_000));
    s.obey();
    let mut failed = 1;
    for at in (1_000..30_000).step_by(50) {
        s.at(ms(at));
        if s.dials.len() > failed {
            failed += 1;
            s.recording.handle_dial_failed(false, s.now);
        }
    }
    assert!(s.finalised && s.now > ms(13_000));
    assert!(s.dials.len() > 8, "{:?}", s.dials);
    assert_eq!(s.segment(1).closed.map(|(reason, _)| reason), Some(CloseReason::Lost));
    s.recording.handle_finalised(Finalised { files: Vec::new(), segments: Vec::new(), duration_ms: 1 });
    s.obey();
    assert_eq!(s.done, Some(false));
    let terminal = |fact: &&Fact| matches!(fact, Fact::RecordingFinished { .. } | Fact::RecordingFailed { .. });
    assert_eq!(s.facts.iter().filter(terminal).count(), 1);
    s.recording.handle_failed("again");
    s.obey();
    assert_eq!(s.facts.iter().filter(terminal).count(), 1, "there is one terminal fact");
}

#[test]
fn a_tap_that_breaks_at_once_each_time_is_not_dialled_in_a_circle() {
    let mut s = Scenario::connected();
    s.tell(3, &packet(1, 0, 0));
    s.recording.handle_lost(s.now);
    s.obey();
    let mut dialled = s.dials.len();
    for at in (0..20_000).step_by(10) {
        s.at(ms(at));
        if s.dials.len() > dialled {
            dialled = s.dials.len();
            s.recording.handle_connected();
            s.recording.handle_lost(s.now);
            s.obey();
        }
    }
    assert!(s.finalised && dialled < 150, "{dialled}");
}

#[test]
fn without_any_audio_the_recording_fails_and_says_why() {
    let mut refused = Scenario::start();
    refused.recording.handle_dial_failed(true, ms(0));
    refused.obey();
    assert_eq!(refused.done, Some(true));

    let mut silent = Scenario::connected();
    let reason = CloseReason::AnnouncerFailed;
    silent.tell(3, &TapInput::Closed { reason, at_ns: ORIGIN });
    assert!(matches!(&silent.facts[..], [Fact::RecordingFailed { reason, .. }] if reason.contains("notice")));

    let mut foreign = Scenario::start();
    foreign.recording.handle_connected();
    assert_eq!(foreign.recording.handle_record(1, &track(1), ms(0)), Err(TapMismatch::NoHello));
    let mut other = plan();
    other.call = id("another");
    let mut foreign = Scenario::with(Recording::start(other, ms(0)), Disk::default());
    foreign.recording.handle_connected();
    assert_eq!(foreign.recording.handle_record(1, &hello(), ms(0)), Err(TapMismatch::Foreign));
}

#[test]
fn a_stop_waits_a_moment_for_the_taps_last_records() {
    let mut s = Scenario::connected();
    s.tell(3, &packet(1, 0, 0));
    s.recording.handle_stop(s.now);
    assert_eq!(s.recording.state(), RecordingState::Finishing);
    s.tell(4, &packet(1, 1, 20));
    s.at(ms(1_900));
    assert!(!s.finalised);
    s.at(ms(2_000));
    assert!(s.finalised);
    assert_eq!(s.sequences(1), [0, 1]);
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Three tracks for forty seconds: packets swapped, late, lost, beeps between them.
fn tap(random: &mut Random) -> Vec<(Duration, TapInput<'static>)> {
    let mut records = vec![(ms(0), hello()), (ms(0), track(1)), (ms(0), track(2)), (ms(0), track(3))];
    let mut media = Vec::new();
    for n in 0..2_000_u16 {
        for track in 1..=3 {
            let late = if random.below(20) == 0 { random.below(220) } else { 0 };
            if random.below(100) > 0 {
                media.push((u64::from(n) * 20 + late, track, n));
            }
        }
    }
    media.sort_by_key(|(at, ..)| *at);
    for (at, track, n) in media {
        records.push((ms(at), packet(track, n, at)));
        if track == 3 && n % 250 == 100 {
            let (kind, at_ns) = (ConsentKind::Beep, ORIGIN + at * MS);
            records.push((ms(at), TapInput::AnnouncementStarted { kind, at_ns }));
            records.push((ms(at), TapInput::AnnouncementEnded { kind, at_ns: at_ns + 200 * MS }));
        }
    }
    for second in (10..40).step_by(10) {
        let at = records.partition_point(|(at, _)| *at < ms(second * 1_000));
        // A wall clock that is being corrected: rounding must not make two events of one.
        let wall = UnixMs(2_000_000 + second * 1_000 + second % 7);
        records.insert(at, (ms(second * 1_000), TapInput::ClockPair { media_ns: ORIGIN + second * 1_000 * MS, wall }));
    }
    let closed = TapInput::Closed { reason: CloseReason::Requested, at_ns: ORIGIN + 41_000 * MS };
    records.push((ms(41_000), closed));
    records
}

impl Disk {
    /// Undoes some of the last flush, and a part of the append before; its facts were then not told either.
    fn tear(&mut self, random: &mut Random, facts: &mut Vec<Fact>) {
        let mut undone = random.below(self.flush.len() as u64 + 1);
        while let Some((place, length)) = self.flush.pop() {
            let whole = undone > 0;
            let cut = if whole { length } else { usize::try_from(random.below(length as u64 + 1)).unwrap() };
            let file = match &place {
                Some(place) => self.files.get_mut(place).unwrap(),
                None => &mut self.consent,
            };
            file.truncate(file.len() - cut);
            if cut > 0 {
                facts.truncate(self.facts_before);
            }
            if !whole {
                return;
            }
            undone -= 1;
        }
    }
}

/// What the shell's store does with the files of a dead recorder.
fn recover(disk: &mut Disk) -> Recovered {
    let next = disk.files.keys().map(|(segment, _)| segment + 1).max().unwrap_or(1);
    let mut segments = Vec::new();
    for number in 1..next {
        let place = (number, timeline::FILE_NAME.to_owned());
        let Some(read) = disk.files.get(&place).and_then(|bytes| SegmentRead::read(bytes)) else { continue };
        disk.files.get_mut(&place).unwrap().truncate(read.sidecar_bytes);
        for run in &read.runs {
            let file = disk.files.get_mut(&(number, run.file.clone())).unwrap_or_else(|| panic!("{}", run.file));
            let cut = cut_run(run, file).unwrap();
            file.truncate(cut.keep_bytes);
            file.extend(cut.append);
        }
        segments.push(read);
    }
    let played = segments.iter().map(|segment| segment.announced.len()).sum();
    let (keep, chain) = cut_consent(&disk.consent, played);
    disk.consent.truncate(keep);
    Recovered::from_segments(&segments, next, chain)
}

#[test]
fn deaths_at_any_moment_lose_nothing_and_write_nothing_twice() {
    for seed in 1..=40 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let records = tap(&mut random);
        let mut s = Scenario::start();
        s.recording.handle_connected();
        let mut next_death = random.below(9_000);
        let (mut index, mut facts, mut deaths, mut discarded) = (0, Vec::new(), 0, 0);
        while index < records.len() {
            let (at, input) = &records[index];
            s.at(*at).tell(index as u64 + 1, input);
            index += 1;
            if index as u64 >= next_death && deaths < 6 && index + 1 < records.len() {
                deaths += 1;
                next_death = index as u64 + random.below(1_500);
                discarded += s.recording.losses().late;
                (s, index) = die(s, &mut random, &mut facts);
            }
        }
        s.at(ms(60_000));
        assert!(s.finalised, "seed {seed}");
        facts.append(&mut s.facts);
        discarded += s.recording.losses().late;
        check(&s, &records, &facts, discarded, seed);
    }
}

/// The process ends in the middle of its last write; the next one goes on where the disk says.
fn die(mut s: Scenario, random: &mut Random, facts: &mut Vec<Fact>) -> (Scenario, usize) {
    let mut disk = std::mem::take(&mut s.disk);
    disk.tear(random, &mut s.facts);
    facts.append(&mut s.facts);
    let recovered = recover(&mut disk);
    let resume = recovered.resume_after;
    let mut next = Scenario::with(Recording::recover(plan(), recovered, s.now), disk);
    next.now = s.now;
    assert_eq!(next.dials, [resume]);
    next.recording.handle_connected();
    (next, usize::try_from(resume).unwrap())
}

fn check(s: &Scenario, records: &[(Duration, TapInput<'_>)], facts: &[Fact], discarded: u64, seed: u64) {
    let mut written: HashMap<(u16, u16), usize> = HashMap::new();
    let segments: Vec<u32> =
        s.disk.files.keys().map(|(segment, _)| *segment).collect::<BTreeSet<_>>().into_iter().collect();
    let mut announced = 0;
    for number in &segments {
        let Some(read) =
            s.disk.files.get(&(*number, timeline::FILE_NAME.to_owned())).and_then(|b| SegmentRead::read(b))
        else {
            continue;
        };
        announced += read.announced.len();
        for run in &read.runs {
            let bytes = &s.disk.files[&(*number, run.file.clone())];
            assert_eq!(crate::g711_file::frames(bytes).count(), run.entries.len(), "file and sidecar agree");
            run.entries.iter().for_each(|entry| *written.entry((run.track, entry.sequence)).or_default() += 1);
        }
    }
    let is_packet = |input: &&TapInput<'_>| matches!(input, TapInput::Packet(_));
    let sent = records.iter().map(|(_, input)| input).filter(is_packet).count() as u64;
    assert!(written.values().all(|count| *count == 1), "seed {seed}: nothing twice");
    assert!(written.len() as u64 + discarded >= sent, "seed {seed}: {} of {sent}, {discarded} late", written.len());
    assert!(discarded < sent / 500, "seed {seed}: {discarded} came too late for their place");
    let beeps = records.iter().filter(|(_, input)| matches!(input, TapInput::AnnouncementEnded { .. })).count();
    let mut told: Vec<u64> = facts
        .iter()
        .filter_map(|fact| if let Fact::ConsentPlayed { played_ms, .. } = fact { Some(played_ms.0) } else { None })
        .collect();
    told.sort_unstable();
    told.dedup();
    assert_eq!((announced, told.len()), (beeps, beeps), "seed {seed}: every beep once");
    let log = consent::read(&s.disk.consent);
    assert_eq!(log.bytes, s.disk.consent.len(), "seed {seed}: the chain is whole");
    let played = log.lines.iter().filter(|line| matches!(line.event, ConsentEvent::Played { .. })).count();
    assert_eq!(played, beeps, "seed {seed}");
}
