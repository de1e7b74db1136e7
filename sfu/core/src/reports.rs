//! RTCP ends here (DESIGN.md §5): reports are read and written per leg, a lost packet is sent again, nothing passes on.
use crate::announcer::Audience;
use crate::command::{LegFigures, News, Output};
use crate::leg::{Leg, LegKey, Transport};
use crate::lifecycle::REPORT_EVERY;
use crate::room::RoomKey;
use crate::shard::{Shard, Timer};
use crate::time::MediaNs;
use offhook_contract::fact::{ConsentKind, TapCloseReason};
use offhook_contract::{LegId, RecordingId};
use offhook_wire_rtp::NtpTime;
use offhook_wire_rtp::rtcp::{Compound, GenericNack, ReportBlock, RtcpPacket, RtcpWriter};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// At a longer round trip the repetition comes too late to be played (DESIGN.md §5).
const RESEND_ROUND_TRIP: Duration = Duration::from_millis(80);
/// Compounds a second of one leg; NACKs for each of 50 packets stay below it.
const COMPOUNDS_PER_SECOND: u32 = 100;
/// Bursts in a row of which nothing arrived.
const UNHEARD_MAX: u8 = 3;
const CNAME: &str = "offhook";
/// Room for the SRTCP trailer behind the largest compound of ours.
const COMPOUND_MAX: usize = 1_200;

impl Shard {
    pub(crate) fn handle_rtcp(&mut self, now: MediaNs, from: SocketAddr, datagram: &mut [u8]) {
        let Some(key) = self.register.by_address(from, || crate::forward::rtcp_sender(datagram)) else {
            self.counters.dropped_unknown_source += 1;
            return;
        };
        let Some(leg) = self.legs.get_mut(key) else { return };
        let Some(media) = leg.media.as_mut() else {
            self.counters.dropped_unauthenticated += 1;
            return;
        };
        let len = match media.inbound.unprotect_rtcp(datagram) {
            Ok(len) => len,
            Err(error) => return self.count_srtp(error),
        };
        if !leg.compounds.take(now, COMPOUNDS_PER_SECOND) {
            self.counters.dropped_rate += 1;
            return;
        }
        let Some(Ok(compound)) = datagram.get(..len).map(Compound::parse) else {
            self.counters.rtcp_malformed += 1;
            return;
        };
        let ntp = self.clock.ntp(now);
        for packet in compound {
            match packet {
                RtcpPacket::SenderReport(report) => {
                    if let Some(leg) = self.legs.get_mut(key) {
                        leg.source.on_sender_report(now, report.ssrc, report.info.ntp);
                    }
                    report.reports().for_each(|block| self.on_report(now, key, ntp, &block));
                }
                RtcpPacket::ReceiverReport(report) => {
                    report.reports().for_each(|block| self.on_report(now, key, ntp, &block));
                }
                RtcpPacket::GenericNack(nack) => self.on_nack(key, &nack),
                // A leg ends by signalling or by its silence, never by a packet.
                RtcpPacket::Goodbye(_) => self.counters.goodbyes_ignored += 1,
                RtcpPacket::SourceDescription(_) | RtcpPacket::Unknown { .. } => {}
            }
        }
    }

    fn on_report(&mut self, now: MediaNs, key: LegKey, ntp: NtpTime, block: &ReportBlock) {
        let Some(leg) = self.legs.get_mut(key) else { return };
        let Some(newer) = leg.writer_mut(block.ssrc).map(|writer| writer.on_report(block.highest_sequence)) else {
            return;
        };
        if let Some(trip) = block.round_trip(ntp) {
            leg.round_trip = Some(trip);
        }
        let (room, is_link) = (leg.room, matches!(leg.transport, Transport::Link(_)));
        let id = Arc::clone(&leg.id);
        let Some(line) = leg.ears.announcer.as_mut() else { return };
        let is_announcer = line.writer.ssrc() == block.ssrc;
        // A gateway vouches for what its telephone was sent, on whatever line; a browser's lines may fail one by one.
        let owed = if newer && (is_announcer || is_link) { line.owed_notice.take() } else { None };
        if !is_announcer {
            line.others_heard_at = if newer { Some(now) } else { line.others_heard_at };
        } else if newer {
            line.heard_at = Some(now);
            line.unheard_bursts = 0;
        }
        if is_announcer {
            self.confirm(now, key, &id, block);
        }
        if let Some(recording) = owed {
            self.play_notice_again(now, room, key, &recording);
        }
    }

    /// Tells of every burst that the report covers.
    fn confirm(&mut self, now: MediaNs, key: LegKey, id: &LegId, block: &ReportBlock) {
        let Some(leg) = self.legs.get_mut(key) else { return };
        let room = leg.room;
        let Some(line) = leg.ears.announcer.as_mut() else { return };
        // Bursts are in order: the report covers a prefix of them.
        while let Some(receipt) = line.receipts.pop_front_if(|receipt| {
            now < receipt.until && (block.highest_sequence.wrapping_sub(receipt.last_sequence) as i32) >= 0
        }) {
            let news = News::Announcement {
                recording: receipt.recording,
                leg: id.clone(),
                kind: receipt.kind,
                played_ms: receipt.played_ms,
                received: true,
            };
            if let Some(context) = self.rooms.get(room).map(|room| Arc::clone(&room.context)) {
                self.outputs.push_back(Output { context, at: now, news });
            }
        }
    }

    /// A party of which nothing was heard while its notice played hears us again: it is told now (DESIGN.md §6).
    fn play_notice_again(&mut self, now: MediaNs, room: RoomKey, key: LegKey, recording: &RecordingId) {
        let open = self.rooms.get(room).and_then(|room| room.tap.as_ref()).filter(|tap| tap.recording == *recording);
        if let Some(notice) = open.map(|tap| tap.notice_for(Audience::One(key))) {
            self.play(now, room, notice);
        }
    }

    /// A receipt that did not come is told, and no more: a bad network loses the last packet of a burst, or the report.
    /// Of a notice it is remembered when nothing arrived at all.
    /// But a party whose reports show that our other lines reach it, and of [`UNHEARD_MAX`] bursts in a row not one
    /// packet, cannot be played to, and the Tap closes as if we had failed to send.
    pub(crate) fn expire_receipts(&mut self, now: MediaNs, key: LegKey) {
        loop {
            let Some(leg) = self.legs.get_mut(key) else { return };
            let Some(line) = leg.ears.announcer.as_mut() else { return };
            let Some(receipt) = line.receipts.pop_front_if(|receipt| now >= receipt.until) else { return };
            let since = |moment: Option<MediaNs>| moment.is_some_and(|at| at >= receipt.ended);
            let heard = since(line.heard_at);
            if !heard && since(line.others_heard_at) {
                line.unheard_bursts = line.unheard_bursts.saturating_add(1);
            }
            if !heard && receipt.kind == ConsentKind::Notice {
                line.owed_notice = Some(receipt.recording.clone());
            }
            let open = self.rooms.get(leg.room).and_then(|room| room.tap.as_ref());
            let unheard = line.unheard_bursts >= UNHEARD_MAX && open.is_some_and(|t| t.recording == receipt.recording);
            let news = News::Announcement {
                recording: receipt.recording,
                leg: LegId::clone(&leg.id),
                kind: receipt.kind,
                played_ms: receipt.played_ms,
                received: false,
            };
            let room = leg.room;
            self.tell_room(now, room, news);
            if unheard {
                self.close_tap(now, room, TapCloseReason::AnnouncerFailed, Some(key));
            }
        }
    }

    /// RFC 4585 §6.2.1. The sealed bytes are sent again exactly as they were: an AEAD nonce is never used twice.
    fn on_nack(&mut self, key: LegKey, nack: &GenericNack<'_>) {
        let Some(leg) = self.legs.get_mut(key) else { return };
        let Some(path) = leg.path else { return };
        if leg.round_trip.is_some_and(|trip| trip > RESEND_ROUND_TRIP) {
            return;
        }
        let Some(writer) = leg.writer_mut(nack.media_ssrc) else { return };
        for sequence in nack.lost().take(64) {
            if let Some(place) = writer.recall(sequence)
                && self.egress.again(place, path, key.index() as u32)
            {
                self.counters.resent_packets += 1;
            }
        }
    }

    /// Every five seconds: a receiver report for what the leg sends, a sender report for each line that was used.
    pub(crate) fn report(&mut self, now: MediaNs, key: LegKey) {
        let ntp = self.clock.ntp(now);
        let Some(leg) = self.legs.get_mut(key) else { return };
        self.timers.set(now.after(REPORT_EVERY), Timer::Reports(key));
        let stats = LegFigures {
            leg: Arc::clone(&leg.id),
            received_packets: leg.source.received,
            lost_packets: leg.source.lost(),
            jitter_ms: leg.source.jitter_ms(),
            round_trip_ms: leg.round_trip.map(|trip| trip.as_secs_f32() * 1000.0),
            sent_packets: leg.sent_packets(),
        };
        self.report_blocks.clear();
        leg.source.reports(now, &mut self.report_blocks);
        let mut buffer = [0; COMPOUND_MAX + offhook_wire_srtp::MAX_TRAILER_LEN];
        let sealed = write_compound(leg, now, ntp, &self.report_blocks, &mut buffer);
        if let (Some(len), Some(path)) = (sealed, leg.path)
            && let Some(bytes) = buffer.get(..len)
            && self.egress.push(bytes, path, key.index() as u32)
        {
            self.counters.reports_sent += 1;
        }
        let room = leg.room;
        self.tell_room(now, room, News::LegStats(stats));
    }
}

/// RFC 3550 §6.1: a report first, then the canonical name. `None` when there is nothing to say, or no keys.
fn write_compound(
    leg: &mut Leg,
    now: MediaNs,
    ntp: NtpTime,
    blocks: &[ReportBlock],
    buffer: &mut [u8],
) -> Option<usize> {
    let Leg { ears, media, report_ssrc, .. } = leg;
    let media = media.as_mut()?;
    let mut writer = RtcpWriter::new(buffer.get_mut(..COMPOUND_MAX)?);
    writer.receiver_report(*report_ssrc, blocks);
    let announcer = ears.announcer.as_mut().map(|line| &mut line.writer);
    let mut sent = 0;
    for line in ears.slots.iter_mut().map(|slot| &mut slot.writer).chain(announcer) {
        if let Some(info) = line.sender_info(now, ntp) {
            writer.sender_report(line.ssrc(), &info, &[]);
            sent += 1;
        }
    }
    writer.source_description(*report_ssrc, CNAME);
    let len = writer.finish().ok()?;
    if blocks.is_empty() && sent == 0 {
        return None;
    }
    media.outbound.protect_rtcp(buffer, len).ok()
}
