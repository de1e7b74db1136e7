//! RTCP with the carrier: what we tell of both streams, and what is told of ours (RFC 3550 §6).

use std::time::Duration;

use offhook_wire_rtp::rtcp::{Compound, ReportBlock, RtcpPacket, RtcpWriter};
use offhook_wire_rtp::{NtpTime, ReceiverStats};

use super::RATE;
use super::mouth::Mouth;
use super::speaker::Speaker;

/// RFC 3550 §6.2: five seconds; two parties and one small report need no scaling.
const PERIOD: Duration = Duration::from_secs(5);
/// RFC 3550 §6.2: half of it before the first.
const FIRST: Duration = Duration::from_millis(2_500);

/// How a leg's media does, for statistics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LegReport {
    pub received_packets: u64,
    pub lost_packets: u64,
    pub jitter_ms: f32,
    pub round_trip_ms: Option<f32>,
    pub sent_packets: u64,
}

#[derive(Debug)]
pub(super) struct Reports {
    cname: String,
    /// Wall time at `now` = 0, for the NTP field.
    unix_ns_at_zero: u64,
    remote: Option<(u32, ReceiverStats)>,
    received: u64,
    round_trip: Option<Duration>,
    due: Duration,
}

impl Reports {
    pub(super) fn new(now: Duration, cname: String, unix_ns_at_zero: u64) -> Self {
        Self { cname, unix_ns_at_zero, remote: None, received: 0, round_trip: None, due: now + FIRST }
    }

    pub(super) const fn due(&self) -> Duration {
        self.due
    }

    /// An RTP packet of the carrier was accepted.
    pub(super) fn received(&mut self, now: Duration, ssrc: u32, sequence: u16, timestamp: u32) {
        self.received += 1;
        if self.remote.is_none_or(|(known, _)| known != ssrc) {
            self.remote = Some((ssrc, ReceiverStats::new()));
        }
        if let Some((_, stats)) = &mut self.remote {
            stats.on_packet(sequence, timestamp, RATE, now.as_nanos() as u64);
        }
    }

    /// A compound from the carrier; false if it is none.
    pub(super) fn take(&mut self, now: Duration, datagram: &[u8], ours: u32) -> bool {
        let Ok(compound) = Compound::parse(datagram) else { return false };
        for packet in compound {
            match packet {
                RtcpPacket::SenderReport(report) => {
                    if let Some((ssrc, stats)) = &mut self.remote
                        && *ssrc == report.ssrc
                    {
                        stats.on_sender_report(report.info.ntp, now.as_nanos() as u64);
                    }
                    report.reports().for_each(|block| self.judged(now, &block, ours));
                }
                RtcpPacket::ReceiverReport(report) => {
                    report.reports().for_each(|block| self.judged(now, &block, ours));
                }
                _ => {}
            }
        }
        true
    }

    fn judged(&mut self, now: Duration, block: &ReportBlock, ours: u32) {
        if block.ssrc == ours {
            self.round_trip = block.round_trip(self.ntp(now)).or(self.round_trip);
        }
    }

    /// The report that is due, written into `out`; its length.
    pub(super) fn write(&mut self, now: Duration, mouth: &Mouth, out: &mut [u8]) -> Option<usize> {
        self.due = now + PERIOD;
        let ntp = self.ntp(now);
        let block = self.remote.as_mut().and_then(|(ssrc, stats)| stats.report(*ssrc, now.as_nanos() as u64));
        let blocks = block.as_slice();
        let mut writer = RtcpWriter::new(out);
        if mouth.packets() > 0 {
            writer.sender_report(mouth.ssrc, &mouth.info(ntp), blocks);
        } else {
            writer.receiver_report(mouth.ssrc, blocks);
        }
        writer.source_description(mouth.ssrc, &self.cname).finish().ok()
    }

    /// The last word of a leg.
    pub(super) fn write_goodbye(&mut self, mouth: &Mouth, out: &mut [u8]) -> Option<usize> {
        let mut writer = RtcpWriter::new(out);
        writer.receiver_report(mouth.ssrc, &[]).source_description(mouth.ssrc, &self.cname);
        writer.goodbye(&[mouth.ssrc], "").finish().ok()
    }

    pub(super) fn report(&self, sent: u32) -> LegReport {
        let stats = self.remote.map(|(_, stats)| stats);
        LegReport {
            received_packets: self.received,
            lost_packets: stats.map_or(0, |s| u64::try_from(s.cumulative_lost()).unwrap_or(0)),
            jitter_ms: stats.map_or(0.0, |s| s.jitter_ticks() as f32 * 1_000.0 / RATE as f32),
            round_trip_ms: self.round_trip.map(|t| t.as_secs_f32() * 1_000.0),
            sent_packets: u64::from(sent),
        }
    }

    fn ntp(&self, now: Duration) -> NtpTime {
        NtpTime::from_unix_ns(self.unix_ns_at_zero.saturating_add(now.as_nanos() as u64))
    }
}

/// Receiver reports on the Link: how the SFU learns which of its slots' and its Announcer's packets the telephone was
/// sent. Nothing is said of what came and was not played.
#[derive(Debug)]
pub(super) struct LinkReports {
    ssrc: u32,
    due: Option<Duration>,
}

/// A report follows what was played by this much: far below the 8 s after which the SFU misses a receipt.
const LINK_PERIOD: Duration = Duration::from_secs(2);
/// Streams in one report.
const LINK_BLOCKS: usize = 17;

impl LinkReports {
    pub(super) const fn new(ssrc: u32) -> Self {
        Self { ssrc, due: None }
    }

    pub(super) const fn due(&self) -> Option<Duration> {
        self.due
    }

    /// The telephone was sent something: a report is owed.
    pub(super) fn played(&mut self, now: Duration) {
        self.due.get_or_insert(now + LINK_PERIOD);
    }

    pub(super) fn write(&mut self, now: Duration, speakers: &mut [Speaker], out: &mut [u8]) -> Option<usize> {
        self.due = None;
        let mut blocks = [ReportBlock::default(); LINK_BLOCKS];
        let known = speakers.iter_mut().filter_map(|s| s.report(now));
        let count = blocks.iter_mut().zip(known).map(|(slot, block)| *slot = block).count();
        RtcpWriter::new(out).receiver_report(self.ssrc, blocks.get(..count)?).finish().ok()
    }
}
