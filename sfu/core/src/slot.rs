//! The writer of one line towards a listener: one SSRC for ever, a sequence that is always last + 1 and a timestamp
//! that never goes backwards, whoever speaks and in whatever codec (DESIGN.md §5).
use crate::egress::Place;
use crate::time::{MediaNs, ticks};
use offhook_contract::CodecName;
use offhook_wire_rtp::{NtpTime, RtpHeader, rtcp::SenderInfo};
use std::time::Duration;

/// The shortest step at a switch of speaker or codec.
const FRAME: Duration = Duration::from_millis(20);
/// A source whose timestamp runs this far ahead of the time that passed has jumped; it is anchored anew.
const JUMP: Duration = Duration::from_secs(2);
/// Sealed packets remembered for repetition: 320 ms of a stream.
const REMEMBERED: usize = 16;
/// A packet is sent again at most so often (DESIGN.md §5: Chromium repeats a request some 28 times).
const RESENDS: u8 = 2;

/// Names the stream that is being written: a sender's SSRC, or one burst of the Announcer.
pub type RunId = u64;

/// A packet of a source, as far as a slot cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    pub run: RunId,
    pub codec: CodecName,
    pub sequence: u16,
    pub timestamp: u32,
    pub marker: bool,
}

/// Header fields to write, and the SRTP index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    pub header: RtpHeader,
    pub index: u64,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    id: RunId,
    codec: CodecName,
    sequence: u16,
    timestamp: u32,
    /// Added to the source's timestamps.
    offset: u32,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    timestamp: u32,
    codec: CodecName,
    at: MediaNs,
}

#[derive(Debug, Clone, Copy, Default)]
struct Remembered {
    index: u64,
    place: Place,
    resent: u8,
}

#[derive(Debug)]
pub struct SlotWriter {
    ssrc: u32,
    /// The 48-bit index of the next packet (RFC 3711 §3.3.1); its low half is the sequence number.
    next: u64,
    first_timestamp: u32,
    last: Option<Last>,
    run: Option<Run>,
    remembered: [Remembered; REMEMBERED],
    packets: u32,
    octets: u32,
    reported_packets: u32,
    /// The highest extended sequence number that the listener has reported.
    arrived: Option<u32>,
}

impl SlotWriter {
    /// `first_sequence` keeps its top bit clear, so that a listener who hears later packets only guesses the
    /// roll-over counter right (RFC 3711 §3.3.1).
    pub fn new(ssrc: u32, first_sequence: u16, first_timestamp: u32) -> Self {
        Self {
            ssrc,
            next: u64::from(first_sequence & 0x7fff),
            first_timestamp,
            last: None,
            run: None,
            remembered: [Remembered::default(); REMEMBERED],
            packets: 0,
            octets: 0,
            reported_packets: 0,
            arrived: None,
        }
    }

    pub const fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The header for `frame` under `payload_type`; `None` when it comes too late to be heard.
    pub fn write(&mut self, now: MediaNs, frame: &Frame, payload_type: u8) -> Option<Written> {
        let (timestamp, switched) = self.place(now, frame)?;
        let offset = timestamp.wrapping_sub(frame.timestamp);
        self.run = Some(Run {
            id: frame.run,
            codec: frame.codec,
            sequence: frame.sequence,
            timestamp: frame.timestamp,
            offset,
        });
        self.last = Some(Last { timestamp, codec: frame.codec, at: now });
        let index = self.next;
        self.next += 1;
        let marker = frame.marker || switched;
        let sequence = (index & 0xffff) as u16;
        Some(Written { header: RtpHeader { marker, payload_type, sequence, timestamp, ssrc: self.ssrc }, index })
    }

    fn place(&self, now: MediaNs, frame: &Frame) -> Option<(u32, bool)> {
        let Some(last) = self.last else { return Some((self.first_timestamp, true)) };
        let elapsed = now.since(last.at);
        let clock = frame.codec.clock_rate_hz();
        let anchored = last.timestamp.wrapping_add(ticks(elapsed.max(FRAME), clock) as u32);
        let Some(run) = self.run.filter(|run| run.id == frame.run) else { return Some((anchored, true)) };
        // Also across a change of codec: what left the sender earlier is late.
        if (frame.sequence.wrapping_sub(run.sequence) as i16) <= 0 {
            return None;
        }
        if run.codec != frame.codec {
            return Some((anchored, true));
        }
        let step = frame.timestamp.wrapping_sub(run.timestamp) as i32;
        if step < 0 || step as u64 > ticks(elapsed + JUMP, clock) {
            return Some((anchored, true));
        }
        Some((frame.timestamp.wrapping_add(run.offset), false))
    }

    /// Whether anything was written since the slot was last [`Self::rest`]ed.
    pub fn codec_running(&self) -> Option<CodecName> {
        self.run.map(|run| run.codec)
    }

    /// Forgets the speaker; the next one begins anew.
    pub fn rest(&mut self) {
        self.run = None;
    }

    /// A frame of ours that follows at once on what was written last: trailing silence.
    pub fn following(&self, codec: CodecName) -> Option<Frame> {
        let run = self.run?;
        let step = ticks(FRAME, codec.clock_rate_hz()) as u32;
        Some(Frame {
            run: run.id,
            codec,
            sequence: run.sequence.wrapping_add(1),
            timestamp: run.timestamp.wrapping_add(step),
            marker: false,
        })
    }

    /// Keeps where the sealed packet stands.
    pub fn remember(&mut self, index: u64, payload_bytes: usize, place: Place) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload_bytes as u32);
        if let Some(entry) = self.remembered.get_mut(index as usize % REMEMBERED) {
            *entry = Remembered { index, place, resent: 0 };
        }
    }

    /// The sealed bytes of a packet reported lost, if they may be sent once more.
    pub fn recall(&mut self, sequence: u16) -> Option<Place> {
        let newest = self.next.checked_sub(1)?;
        let back = u64::from((newest as u16).wrapping_sub(sequence));
        let index = newest.checked_sub(back)?;
        let entry = self.remembered.get_mut(index as usize % REMEMBERED)?;
        if back >= REMEMBERED as u64 || entry.index != index || entry.resent >= RESENDS {
            return None;
        }
        entry.resent += 1;
        Some(entry.place)
    }

    pub const fn packets(&self) -> u32 {
        self.packets
    }

    /// The extended sequence number of the packet written last, as a receiver report would say it.
    pub const fn last_extended(&self) -> u32 {
        self.next.wrapping_sub(1) as u32
    }

    /// The listener reports this as the highest that came; whether something came since its last report.
    pub fn on_report(&mut self, highest: u32) -> bool {
        let newer = self.arrived.is_none_or(|known| highest.wrapping_sub(known) as i32 > 0);
        if newer {
            self.arrived = Some(highest);
        }
        newer
    }

    /// What a sender report says now (RFC 3550 §6.4.1); `None` when nothing was sent since the one before.
    pub fn sender_info(&mut self, now: MediaNs, ntp: NtpTime) -> Option<SenderInfo> {
        let last = self.last.filter(|_| self.packets != self.reported_packets)?;
        self.reported_packets = self.packets;
        let elapsed = ticks(now.since(last.at), last.codec.clock_rate_hz());
        Some(SenderInfo {
            ntp,
            rtp_timestamp: last.timestamp.wrapping_add(elapsed as u32),
            packet_count: self.packets,
            octet_count: self.octets,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const START: u64 = 60_000 * MS;

    fn frame(run: RunId, codec: CodecName, sequence: u16, timestamp: u32) -> Frame {
        Frame { run, codec, sequence, timestamp, marker: false }
    }

    fn at(ms: u64) -> MediaNs {
        MediaNs(START + ms * MS)
    }

    /// Writes and returns (sequence, timestamp).
    fn put(slot: &mut SlotWriter, ms: u64, frame: Frame) -> Option<(u16, u32)> {
        slot.write(at(ms), &frame, 111).map(|w| (w.header.sequence, w.header.timestamp))
    }

    #[test]
    fn a_speaker_keeps_its_own_steps_and_the_sequence_has_no_holes() {
        let mut slot = SlotWriter::new(1, 100, 5_000);
        assert_eq!(put(&mut slot, 0, frame(1, CodecName::Opus, 7, 90_000)), Some((100, 5_000)));
        assert_eq!(put(&mut slot, 21, frame(1, CodecName::Opus, 8, 90_960)), Some((101, 5_960)));
        // Two lost on the way in: the time shows it, the sequence does not.
        assert_eq!(put(&mut slot, 80, frame(1, CodecName::Opus, 11, 93_840)), Some((102, 8_840)));
        assert_eq!(put(&mut slot, 81, frame(1, CodecName::Opus, 10, 92_880)), None);
        assert_eq!(put(&mut slot, 81, frame(1, CodecName::Opus, 11, 93_840)), None);
    }

    #[test]
    fn a_new_speaker_follows_by_the_time_that_passed_in_its_own_clock() {
        let mut slot = SlotWriter::new(1, 0, 0);
        put(&mut slot, 0, frame(1, CodecName::Opus, 1, 4_000_000_000));
        assert_eq!(put(&mut slot, 500, frame(2, CodecName::Opus, 1, 17)), Some((1, 24_000)));
        assert_eq!(put(&mut slot, 505, frame(3, CodecName::Pcmu, 9, 0)), Some((2, 24_160)));
        assert_eq!(put(&mut slot, 525, frame(3, CodecName::Pcmu, 10, 160)), Some((3, 24_320)));
        assert_eq!(put(&mut slot, 545, frame(3, CodecName::Opus, 11, 7)), Some((4, 25_280)));
        assert_eq!(put(&mut slot, 546, frame(3, CodecName::Pcmu, 10, 160)), None, "late, of the codec before");
    }

    #[test]
    fn a_source_that_jumps_is_anchored_anew_and_time_never_goes_backwards() {
        let mut slot = SlotWriter::new(1, 0, 1_000);
        put(&mut slot, 0, frame(1, CodecName::Pcma, 1, 8_000));
        assert_eq!(put(&mut slot, 20, frame(1, CodecName::Pcma, 2, 0)), Some((1, 1_160)), "one second back");
        assert_eq!(put(&mut slot, 40, frame(1, CodecName::Pcma, 3, 1_000_000)), Some((2, 1_320)), "two minutes ahead");
        assert_eq!(put(&mut slot, 60, frame(1, CodecName::Pcma, 4, 1_000_160)), Some((3, 1_480)));
        // Silence of ten seconds that the source's own clock followed is no jump.
        assert_eq!(put(&mut slot, 10_060, frame(1, CodecName::Pcma, 5, 1_080_160)), Some((4, 81_480)));
    }

    #[test]
    fn wraps_of_sequence_and_timestamp_go_unnoticed() {
        let mut slot = SlotWriter::new(1, 0x7fff, u32::MAX - 100);
        slot.next = 0xfffe;
        let mut last = None;
        for n in 0..6_u16 {
            let source = frame(
                1,
                CodecName::Pcmu,
                0xfffd_u16.wrapping_add(n),
                (u32::MAX - 300).wrapping_add(u32::from(n) * 160),
            );
            let written = slot.write(at(u64::from(n) * 20), &source, 0).unwrap();
            assert_eq!(written.header.sequence, 0xfffe_u16.wrapping_add(n));
            assert_eq!(written.index, 0xfffe + u64::from(n), "the index counts the roll-over");
            if let Some(last) = last {
                assert_eq!(written.header.timestamp.wrapping_sub(last), 160);
            }
            last = Some(written.header.timestamp);
        }
    }

    #[test]
    fn forty_codec_changes_stay_in_order() {
        let mut slot = SlotWriter::new(1, 0, 0);
        let mut last = 0;
        for n in 0..40_u16 {
            let codec = if n % 2 == 0 { CodecName::Opus } else { CodecName::Pcmu };
            let (sequence, timestamp) =
                put(&mut slot, u64::from(n) * 300, frame(1, codec, n, u32::from(n) * 77_777)).unwrap();
            assert_eq!(sequence, n);
            if n > 0 {
                assert_eq!(timestamp - last, ticks(Duration::from_millis(300), codec.clock_rate_hz()) as u32);
            }
            last = timestamp;
        }
    }

    #[test]
    fn a_lost_packet_is_recalled_twice_and_only_while_remembered() {
        let mut slot = SlotWriter::new(1, 10, 0);
        for n in 0..20_u16 {
            let written =
                slot.write(at(u64::from(n) * 20), &frame(1, CodecName::Pcmu, n, u32::from(n) * 160), 0).unwrap();
            slot.remember(written.index, 160, Place::default());
        }
        assert!(slot.recall(25).is_some() && slot.recall(25).is_some());
        assert!(slot.recall(25).is_none(), "a third time");
        assert!(slot.recall(13).is_none(), "forgotten");
        assert!(slot.recall(14).is_some() && slot.recall(29).is_some());
        assert!(slot.recall(30).is_none() && slot.recall(60_000).is_none(), "never sent");
    }

    #[test]
    fn a_sender_report_is_due_only_after_packets_and_continues_the_clock() {
        let mut slot = SlotWriter::new(1, 0, 1_000);
        assert!(slot.sender_info(at(0), NtpTime(1)).is_none());
        let written = slot.write(at(0), &frame(1, CodecName::Pcmu, 0, 0), 0).unwrap();
        slot.remember(written.index, 160, Place::default());
        let info = slot.sender_info(at(500), NtpTime(1)).unwrap();
        assert_eq!((info.rtp_timestamp, info.packet_count, info.octet_count), (5_000, 1, 160));
        assert!(slot.sender_info(at(5_500), NtpTime(2)).is_none());
    }
}
