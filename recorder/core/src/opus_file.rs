//! Opus in Ogg (RFC 7845), written while the packets come: no decoding, gaps filled so that any player keeps time.
use crate::ogg::{PageWriter, pages};

/// RFC 7845 §4: granule positions count samples at 48 kHz whatever the signal.
pub const GRANULES_PER_SECOND: u64 = 48_000;
/// RFC 6716 §3.1: one mono CELT frame of this many samples, full band, one frame in the packet.
const FILL: [(u64, u8); 4] = [(960, 0xf8), (480, 0xf0), (240, 0xe8), (120, 0xe0)];

/// A page holds at most this much, so that a reader who seeks is never far off.
const MAX_PAGE_SAMPLES: u64 = GRANULES_PER_SECOND;
/// What a decoder throws away at the start (RFC 7845 §4.2): the delay of the encoder, which is 6.5 ms for everybody's
/// libopus.
const PRE_SKIP: u16 = 312;
/// The packet that carries the end of the stream: 2.5 ms without frame data.
const LAST_PACKET: u8 = 0xe0;

/// One Ogg Opus file. Bytes are appended to `out`; what they are appended to is the caller's.
#[derive(Debug)]
pub struct OpusFile {
    pages: PageWriter,
    position: u64,
    page_start: u64,
}

impl OpusFile {
    /// Writes the two header pages (RFC 7845 §3).
    pub fn begin(serial: u32, comments: &[(&str, &str)], out: &mut Vec<u8>) -> Self {
        let mut pages = PageWriter::new(serial);
        pages.packet(&head(), 0, out);
        pages.close_page(out);
        pages.packet(&tags(comments), 0, out);
        pages.close_page(out);
        Self { pages, position: 0, page_start: 0 }
    }

    /// Samples at 48 kHz so far.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// `ticks`: how long the packet lasts at 48 kHz.
    pub fn packet(&mut self, packet: &[u8], ticks: u32, out: &mut Vec<u8>) {
        self.put(packet, u64::from(ticks), out);
    }

    fn put(&mut self, packet: &[u8], ticks: u64, out: &mut Vec<u8>) {
        if self.position - self.page_start + ticks > MAX_PAGE_SAMPLES {
            self.close_page(out);
        }
        self.position += ticks;
        self.pages.packet(packet, self.position, out);
    }

    /// Fills up to `ticks` with packets that hold no frame data, which a decoder conceals or plays as silence
    /// (RFC 6716 §3.2.1). Returns how many packets; what is left is less than 2.5 ms.
    pub fn fill(&mut self, ticks: u64, out: &mut Vec<u8>) -> u32 {
        let (mut left, mut count) = (ticks, 0);
        for (length, toc) in FILL {
            while left >= length {
                left -= length;
                self.put(&[toc], length, out);
                count += 1;
            }
        }
        count
    }

    pub fn close_page(&mut self, out: &mut Vec<u8>) {
        self.page_start = self.position;
        self.pages.close_page(out);
    }

    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.pages.close_page(out);
        end(&mut self.pages, self.position, out);
    }
}

/// A page of its own, since what stood before is written already. Its packet lasts past the end it names, so a player
/// cuts it off (RFC 7845 §4.4).
fn end(pages: &mut PageWriter, position: u64, out: &mut Vec<u8>) {
    pages.packet(&[LAST_PACKET], position, out);
    pages.finish(out);
}

/// RFC 7845 §5.1.
fn head() -> Vec<u8> {
    let mut head = b"OpusHead".to_vec();
    head.extend_from_slice(&[1, 1]);
    head.extend_from_slice(&PRE_SKIP.to_le_bytes());
    head.extend_from_slice(&48_000u32.to_le_bytes());
    head.extend_from_slice(&0i16.to_le_bytes());
    head.push(0);
    head
}

/// RFC 7845 §5.2. Comments are ours (ids), far below a page.
fn tags(comments: &[(&str, &str)]) -> Vec<u8> {
    let mut tags = b"OpusTags".to_vec();
    let mut text = |bytes: &[u8]| {
        tags.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
        tags.extend_from_slice(bytes);
    };
    text(b"offhook");
    let lines: Vec<String> = comments.iter().map(|(name, value)| format!("{name}={value}")).collect();
    tags.extend_from_slice(&u32::try_from(lines.len()).unwrap_or(0).to_le_bytes());
    for line in lines {
        tags.extend_from_slice(&u32::try_from(line.len()).unwrap_or(0).to_le_bytes());
        tags.extend_from_slice(line.as_bytes());
    }
    tags
}

/// How much of a file that was being written is to be kept, and what ends it properly.
#[derive(Debug, PartialEq, Eq)]
pub struct Salvage {
    pub keep_bytes: usize,
    pub packets: u64,
    /// To append after the cut; empty if the file already ends.
    pub ending: Vec<u8>,
}

/// Keeps whole pages that hold at most `packets` audio packets. `None` if not even the headers are whole.
pub fn salvage(bytes: &[u8], packets: u64) -> Option<Salvage> {
    let mut found = pages(bytes);
    let head = found.next()?;
    let tags = found.next()?;
    let mut kept = Salvage { keep_bytes: head.bytes() + tags.bytes(), packets: 0, ending: Vec::new() };
    let (mut sequence, mut position, mut ended) = (2, 0, false);
    for page in found {
        let Ok(inside) = page.packets() else { break };
        let count = if page.last { 0 } else { inside.len() as u64 };
        if kept.packets + count > packets {
            break;
        }
        kept.packets += count;
        kept.keep_bytes += page.bytes();
        sequence = page.sequence.wrapping_add(1);
        position = page.position.unwrap_or(position);
        ended = page.last;
    }
    if !ended {
        end(&mut PageWriter::resumed(head.serial, sequence, position), position, &mut kept.ending);
    }
    Some(kept)
}

/// The audio packets of a file, without headers and ending.
pub fn packets(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    pages(bytes).skip(2).filter(|page| !page.last).flat_map(|page| page.packets().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(packets: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let mut file = OpusFile::begin(1, &[("TRACK", "1")], &mut out);
        for n in 0..packets {
            file.packet(&[0xf8, 0xff, 0xfe], 960, &mut out);
            if n % 25 == 24 {
                file.close_page(&mut out);
            }
        }
        out
    }

    #[test]
    fn a_gap_is_filled_to_within_two_and_a_half_milliseconds() {
        let mut out = Vec::new();
        let mut file = OpusFile::begin(1, &[], &mut out);
        assert_eq!(file.fill(960 * 3 + 480 + 120 + 119, &mut out), 5);
        assert_eq!(file.position(), 960 * 3 + 480 + 120);
    }

    #[test]
    fn a_file_cut_by_a_death_keeps_its_confirmed_pages_and_gets_an_end() {
        let bytes = file(100);
        let kept = salvage(&bytes, 75).unwrap();
        assert_eq!(kept.packets, 75);
        let mut whole = bytes[..kept.keep_bytes].to_vec();
        whole.extend_from_slice(&kept.ending);
        assert_eq!(packets(&whole).count(), 75);
        assert!(pages(&whole).last().unwrap().last);
        assert_eq!(salvage(&whole, 75).unwrap().ending, Vec::<u8>::new(), "an ended file is left alone");
        let cut = salvage(&bytes[..bytes.len() - 3], 100).unwrap();
        assert_eq!(cut.packets, 75);
        assert_eq!(salvage(&bytes[..40], 100), None);
    }
}
