//! One suite for both forms of the Tap: order, resume, gaps, refusals, the reader's coming and going.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use offhook_contract::sfu::TapOffer;
use offhook_contract::{BootId, CallId, CodecName, LegId, RecordingId, RoomId, Secret, TenantId, UnixMs};
use offhook_link::tap::{TapDialError, TapReadError};
use offhook_link::*;
use offhook_testkit::{CountingAllocator, Rng, length};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const A_WHILE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq)]
enum Which {
    Network,
    InProcess,
}

struct Bench {
    form: TapForm,
    hub: TapHub,
    recorder: Identity,
}

async fn bench(which: Which, limits: TapLimits) -> Bench {
    let form = match which {
        Which::Network => TapForm::Network,
        Which::InProcess => TapForm::InProcess(InProcessTaps::default()),
    };
    let host = TapHost {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        advertised: Vec::new(),
        identity: Identity::generate().unwrap(),
        limits,
    };
    Bench { hub: form.host(host).await.unwrap(), form, recorder: Identity::generate().unwrap() }
}

impl Bench {
    fn open(&self, recording: &str) -> OpenedTap {
        let subject = TapSubject {
            recording: RecordingId::parse(recording).unwrap(),
            room: RoomId::parse("room").unwrap(),
            call: CallId::parse("call").unwrap(),
            tenant: TenantId::parse("tenant").unwrap(),
            clock: BootId::parse("boot").unwrap(),
            recorder: self.recorder.fingerprint(),
        };
        self.hub.open(subject, 5, UnixMs(1_000)).unwrap()
    }
    async fn connect(&self, offer: &TapOffer, after: u64) -> Result<TapReader, TapDialError> {
        self.form.dialer(self.recorder.clone()).connect(offer, after).await
    }
}

fn packet(payload: &[u8], media_ns: u64) -> Packet<'_> {
    Packet {
        track: TrackId(1),
        media_ns,
        codec: CodecName::Opus,
        payload_type: 111,
        marker: false,
        sequence: 1,
        timestamp: 2,
        payload,
    }
}

fn write(writer: &mut TapWriter, count: u64) {
    for n in 0..count {
        assert!(writer.packet(&packet(&n.to_be_bytes(), n)));
    }
}

async fn take(reader: &mut TapReader, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    for _ in 0..count {
        let frame = timeout(A_WHILE, reader.next()).await.expect("a record was due").unwrap().expect("not the end");
        numbers.push(frame.number());
    }
    numbers
}

async fn until(reader: &mut tokio::sync::watch::Receiver<ReaderState>, state: ReaderState) {
    timeout(A_WHILE, reader.wait_for(|seen| *seen == state)).await.expect("state was due").unwrap();
}

/// Both forms walk through the same story.
macro_rules! story {
    ($name:ident, $limits:expr, $bench:ident => $body:block) => {
        mod $name {
            use super::*;
            async fn story($bench: Bench) $body
            #[tokio::test]
            async fn in_process() {
                story(bench(Which::InProcess, $limits).await).await;
            }
            #[tokio::test]
            async fn over_tls() {
                story(bench(Which::Network, $limits).await).await;
            }
        }
    };
}

story!(records_arrive_once_in_order_and_whole, TapLimits::default(), bench => {
    let OpenedTap { mut writer, offer, mut reader } = bench.open("rec");
    let leg = Party::Leg(LegId::parse("leg-a").unwrap());
    assert!(writer.track(TrackId(1), &leg, 7));
    write(&mut writer, 300);
    let mut tap = bench.connect(&offer, 0).await.unwrap();
    until(&mut reader, ReaderState::Attached).await;
    assert_eq!(writer.reader(), ReaderState::Attached);
    let hello = timeout(A_WHILE, tap.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(hello.record().unwrap(), TapRecord::Hello(h) if h.recording.as_str() == "rec" && h.media_ns == 5));
    let track = tap.next().await.unwrap().unwrap();
    assert_eq!(track.record().unwrap(), TapRecord::Track { track: TrackId(1), party: leg, at_ns: 7 });
    for n in 0..300_u64 {
        let frame = timeout(A_WHILE, tap.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.record().unwrap(), TapRecord::Packet(packet(&n.to_be_bytes(), n)));
    }
    writer.close(ClosedReason::Requested, 99);
    let last = timeout(A_WHILE, tap.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(last.record().unwrap(), TapRecord::Closed { reason: ClosedReason::Requested, at_ns: 99 });
    assert!(tap.next().await.unwrap().is_none());
    until(&mut reader, ReaderState::Finished).await;
});

story!(a_reader_resumes_after_its_last_record_without_loss_or_repetition, TapLimits::default(), bench => {
    let OpenedTap { mut writer, offer, mut reader } = bench.open("rec");
    write(&mut writer, 50);
    let mut first = bench.connect(&offer, 0).await.unwrap();
    assert_eq!(take(&mut first, 30).await, (1..=30).collect::<Vec<_>>());
    drop(first);
    until(&mut reader, ReaderState::Detached).await;
    write(&mut writer, 50);
    // It had read 30 but only 25 were on its disk.
    let mut second = bench.connect(&offer, 25).await.unwrap();
    until(&mut reader, ReaderState::Attached).await;
    assert_eq!(take(&mut second, 76).await, (26..=101).collect::<Vec<_>>());
});

story!(a_reader_killed_again_and_again_loses_and_repeats_nothing, TapLimits::default(), bench => {
    let OpenedTap { mut writer, offer, mut reader } = bench.open("rec");
    let mut rng = Rng::seeded(0x7A9);
    // The first record names the recording.
    let (mut written, mut on_disk) = (1, 0);
    for round in 0..length(25, 1_000) {
        let count = rng.below(60);
        write(&mut writer, count);
        written += count;
        let mut tap = bench.connect(&offer, on_disk).await.unwrap();
        until(&mut reader, ReaderState::Attached).await;
        let read = rng.below(written - on_disk + 1);
        let numbers = take(&mut tap, read as usize).await;
        assert_eq!(numbers, (on_disk + 1..=on_disk + read).collect::<Vec<_>>(), "round {round}");
        // Of what it has read, a part was on its disk when it was killed.
        on_disk += rng.below(read + 1);
        drop(tap);
        until(&mut reader, ReaderState::Detached).await;
    }
    writer.close(ClosedReason::Requested, 1);
    let mut tap = bench.connect(&offer, on_disk).await.unwrap();
    let rest = (written - on_disk) as usize;
    assert_eq!(take(&mut tap, rest).await.last().copied().unwrap_or(on_disk), written);
    let last = timeout(A_WHILE, tap.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(last.record().unwrap(), TapRecord::Closed { reason: ClosedReason::Requested, .. }));
});

story!(the_newer_of_two_readers_wins, TapLimits::default(), bench => {
    let OpenedTap { mut writer, offer, reader } = bench.open("rec");
    let mut first = bench.connect(&offer, 0).await.unwrap();
    take(&mut first, 1).await;
    let mut second = bench.connect(&offer, 1).await.unwrap();
    let ended = timeout(A_WHILE, first.next()).await.unwrap();
    assert!(matches!(ended, Err(TapReadError::Interrupted | TapReadError::Io(_))), "{ended:?}");
    drop(first);
    write(&mut writer, 3);
    assert_eq!(take(&mut second, 3).await, [2, 3, 4]);
    assert_eq!(*reader.borrow(), ReaderState::Attached);
});

story!(without_a_reader_for_the_patience_time_the_sfu_is_told_and_nobody_resumes,
    TapLimits { patience: Duration::from_millis(200), ..TapLimits::default() }, bench => {
    let OpenedTap { writer, offer, mut reader } = bench.open("rec");
    let tap = bench.connect(&offer, 0).await.unwrap();
    until(&mut reader, ReaderState::Attached).await;
    drop(tap);
    until(&mut reader, ReaderState::Gone).await;
    assert_eq!(writer.reader(), ReaderState::Gone);
    let refused = bench.connect(&offer, 0).await;
    assert!(matches!(refused, Err(TapDialError::Refused(Refusal::Over))), "{refused:?}");
    writer.close(ClosedReason::RecorderGone, 1);
    until(&mut reader, ReaderState::Finished).await;
});

story!(a_slow_reader_gets_a_counted_gap_and_then_the_rest,
    TapLimits { history_bytes: 64 * 1024, ..TapLimits::default() }, bench => {
    let OpenedTap { mut writer, offer, .. } = bench.open("rec");
    let mut tap = bench.connect(&offer, 0).await.unwrap();
    take(&mut tap, 1).await;
    let payload = [7; 1_000];
    let mut refused = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    // More than the sockets' buffers hold; the ring is emptied every 20 ms, so some packets find it full.
    for n in 0..12_000_u64 {
        if !writer.packet(&packet(&payload, n)) {
            refused += 1;
            tick.tick().await;
        }
    }
    assert_eq!(writer.dropped_packets(), refused);
    writer.close(ClosedReason::Requested, 0);
    let (mut at, mut got, mut missed) = (1, 0, 0);
    while let Some(frame) = timeout(A_WHILE, tap.next()).await.unwrap().unwrap() {
        match frame.record().unwrap() {
            TapRecord::Gap { from, to, packets, .. } => {
                assert_eq!(from, at + 1);
                assert_eq!(to, frame.number());
                missed += packets;
            }
            TapRecord::Packet(_) => {
                assert_eq!(frame.number(), at + 1);
                got += 1;
            }
            _ => assert_eq!(frame.number(), at + 1),
        }
        at = frame.number();
    }
    assert!(missed > refused, "the log dropped some as well: {missed} {refused}");
    assert_eq!(got + missed, 12_000, "every packet is either there or counted");
    assert_eq!(at, 12_002);
});

story!(a_wrong_token_an_unknown_recording_and_a_foreign_certificate_are_refused, TapLimits::default(), bench => {
    let OpenedTap { writer: _writer, offer, reader } = bench.open("rec");
    let wrong = TapOffer { token: Secret::new("x".repeat(43)), ..offer.clone() };
    let refused = bench.connect(&wrong, 0).await;
    assert!(matches!(refused, Err(TapDialError::Refused(Refusal::Token))), "{refused:?}");
    let unknown = TapOffer { recording: RecordingId::parse("other").unwrap(), ..offer.clone() };
    let refused = bench.connect(&unknown, 0).await;
    assert!(matches!(refused, Err(TapDialError::Refused(Refusal::Token))), "{refused:?}");
    let stranger = bench.form.dialer(Identity::generate().unwrap()).connect(&offer, 0).await;
    assert!(matches!(stranger, Err(TapDialError::Refused(Refusal::Certificate))), "{stranger:?}");
    let ahead = bench.connect(&offer, 1_000).await;
    assert!(matches!(ahead, Err(TapDialError::Refused(Refusal::ResumeAhead))), "{ahead:?}");
    assert_eq!(*reader.borrow(), ReaderState::Waiting, "none of them counts as a reader");
});

story!(another_sfus_certificate_is_refused_by_the_recorder, TapLimits::default(), bench => {
    let OpenedTap { writer: _writer, offer, .. } = bench.open("rec");
    let other = TapOffer { fingerprint: Identity::generate().unwrap().fingerprint().to_string(), ..offer };
    let refused = bench.connect(&other, 0).await;
    let named = matches!(refused, Err(TapDialError::Refused(Refusal::Certificate) | TapDialError::Unreachable { .. }));
    assert!(named, "{refused:?}");
});

story!(a_writer_that_dies_leaves_an_abandoned_tap, TapLimits::default(), bench => {
    let OpenedTap { mut writer, offer, .. } = bench.open("rec");
    let mut tap = bench.connect(&offer, 0).await.unwrap();
    write(&mut writer, 2);
    drop(writer);
    take(&mut tap, 3).await;
    let last = timeout(A_WHILE, tap.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(last.record().unwrap(), TapRecord::Closed { reason: ClosedReason::Abandoned, .. }));
});

story!(one_recording_has_one_tap_and_the_node_has_a_limit,
    TapLimits { taps: 2, ..TapLimits::default() }, bench => {
    let first = bench.open("a");
    let subject = |name: &str| TapSubject {
        recording: RecordingId::parse(name).unwrap(),
        room: RoomId::parse("room").unwrap(),
        call: CallId::parse("call").unwrap(),
        tenant: TenantId::parse("tenant").unwrap(),
        clock: BootId::parse("boot").unwrap(),
        recorder: bench.recorder.fingerprint(),
    };
    assert!(matches!(bench.hub.open(subject("a"), 0, UnixMs(0)), Err(TapOpenError::AlreadyOpen)));
    let _second = bench.open("b");
    assert!(matches!(bench.hub.open(subject("c"), 0, UnixMs(0)), Err(TapOpenError::Full(2))));
    drop(first);
});

/// A peer that is not ours: whatever it sends, the listener lives and says why.
#[tokio::test]
async fn garbage_on_the_listener_ends_that_connection_only() {
    let bench = bench(Which::Network, TapLimits::default()).await;
    let OpenedTap { mut writer, offer, .. } = bench.open("rec");
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4_096], &[0x16, 3, 1, 0xff, 0xff, 1, 2, 3]] {
        let mut stream = tokio::net::TcpStream::connect(offer.addresses[0]).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(A_WHILE, stream.read_to_end(&mut answer)).await.expect("the connection ends");
    }
    write(&mut writer, 1);
    let mut tap = bench.connect(&offer, 0).await.unwrap();
    assert_eq!(take(&mut tap, 2).await, [1, 2]);
}

#[test]
fn the_writer_neither_blocks_nor_allocates_when_nobody_empties_its_ring() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bench = runtime.block_on(bench(Which::InProcess, TapLimits::default()));
    let OpenedTap { mut writer, .. } = runtime.block_on(async { bench.open("rec") });
    // The runtime stands still from here on: what is written can only go into the ring.
    let payload = [0; 160];
    let write_all = || (0..100_000_u64).filter(|n| writer.packet(&packet(&payload, *n))).count();
    let (written, allocations) = CountingAllocator::during(write_all);
    assert_eq!(allocations, 0);
    assert!(written > 400 && written * (160 + 27) < 128 * 1024, "{written}");
    assert_eq!(writer.dropped_packets(), 100_000 - u64::try_from(written).unwrap());
    assert!(writer.track(TrackId(2), &Party::Announcer, 0), "naming records have room of their own");
}
