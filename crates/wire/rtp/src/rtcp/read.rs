//! Splitting a compound and checking each packet once.

use super::NACK_FORMAT;
use super::packet_type as pt;
use super::view::{self, GenericNack, Goodbye, ReceiverReport, RtcpPacket, SenderReport, SourceDescription};

/// Why bytes are not RTCP; the whole compound is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtcpError {
    #[error("a packet is shorter than its length field says")]
    Truncated,
    #[error("version {0} is not 2")]
    Version(u8),
    #[error("padding count {0} is wrong, or stands in a packet that is not the last")]
    Padding(u8),
    #[error("packet type {packet_type} with count {count} does not fit its {len} bytes")]
    Body { packet_type: u8, count: u8, len: usize },
}

/// One or more packets of one datagram. Reduced-size compounds are taken as well (RFC 5506 §3.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compound<'a> {
    bytes: &'a [u8],
}

impl<'a> Compound<'a> {
    /// Checks every packet; iterating afterwards cannot fail.
    ///
    /// # Errors
    /// [`RtcpError`] of the first broken packet.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RtcpError> {
        if bytes.is_empty() {
            return Err(RtcpError::Truncated);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, rest) = split_packet(rest)?;
        }
        Ok(Self { bytes })
    }

    #[must_use]
    pub const fn packets(&self) -> Packets<'a> {
        Packets { rest: self.bytes }
    }
}

impl<'a> IntoIterator for Compound<'a> {
    type Item = RtcpPacket<'a>;
    type IntoIter = Packets<'a>;

    fn into_iter(self) -> Packets<'a> {
        self.packets()
    }
}

#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = RtcpPacket<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (packet, rest) = split_packet(self.rest).ok()?;
        self.rest = rest;
        Some(packet)
    }
}

/// One packet off the front (RFC 3550 §6.4.1: length in words, minus one).
fn split_packet(bytes: &[u8]) -> Result<(RtcpPacket<'_>, &[u8]), RtcpError> {
    let (&[first, packet_type, l0, l1], behind) = bytes.split_first_chunk::<4>().ok_or(RtcpError::Truncated)?;
    if first >> 6 != 2 {
        return Err(RtcpError::Version(first >> 6));
    }
    let len = usize::from(u16::from_be_bytes([l0, l1])) * 4;
    let (body, rest) = behind.split_at_checked(len).ok_or(RtcpError::Truncated)?;
    let body = if first & 0x20 == 0 { body } else { strip_padding(body, rest)? };
    let count = first & 0x1F;
    let packet = read_body(packet_type, count, body).ok_or(RtcpError::Body { packet_type, count, len })?;
    Ok((packet, rest))
}

/// RFC 3550 §6.4.1: only the last packet may be padded, by a multiple of four that counts itself.
fn strip_padding<'a>(body: &'a [u8], rest: &[u8]) -> Result<&'a [u8], RtcpError> {
    let count = body.last().copied().unwrap_or(0);
    let kept = body.len().checked_sub(usize::from(count)).ok_or(RtcpError::Padding(count))?;
    if count == 0 || count % 4 != 0 || !rest.is_empty() {
        return Err(RtcpError::Padding(count));
    }
    body.get(..kept).ok_or(RtcpError::Padding(count))
}

fn read_body(packet_type: u8, count: u8, body: &[u8]) -> Option<RtcpPacket<'_>> {
    Some(match packet_type {
        pt::SENDER_REPORT => {
            let (ssrc, rest) = body.split_first_chunk::<4>()?;
            let (info, rest) = rest.split_first_chunk::<20>()?;
            // What follows the blocks is a profile extension and ignored (RFC 3550 §6.4.3).
            let blocks = rest.get(..usize::from(count) * 24)?;
            let (ssrc, info) = (u32::from_be_bytes(*ssrc), view::sender_info(info));
            RtcpPacket::SenderReport(SenderReport { ssrc, info, blocks })
        }
        pt::RECEIVER_REPORT => {
            let (ssrc, rest) = body.split_first_chunk::<4>()?;
            let blocks = rest.get(..usize::from(count) * 24)?;
            RtcpPacket::ReceiverReport(ReceiverReport { ssrc: u32::from_be_bytes(*ssrc), blocks })
        }
        pt::SOURCE_DESCRIPTION => {
            let mut rest = body;
            for _ in 0..count {
                (_, rest) = view::split_chunk(rest)?;
            }
            RtcpPacket::SourceDescription(SourceDescription { count, body })
        }
        pt::GOODBYE => {
            let (sources, rest) = body.split_at_checked(usize::from(count) * 4)?;
            let reason = match rest.split_first() {
                Some((len, text)) => Some(text.get(..usize::from(*len))?),
                None => None,
            };
            RtcpPacket::Goodbye(Goodbye { sources, reason })
        }
        pt::TRANSPORT_FEEDBACK if count == NACK_FORMAT => {
            let (sender, rest) = body.split_first_chunk::<4>()?;
            let (media, entries) = rest.split_first_chunk::<4>()?;
            let (sender_ssrc, media_ssrc) = (u32::from_be_bytes(*sender), u32::from_be_bytes(*media));
            RtcpPacket::GenericNack(GenericNack { sender_ssrc, media_ssrc, entries })
        }
        _ => RtcpPacket::Unknown { packet_type, format: count, body },
    })
}
