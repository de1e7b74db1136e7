//! Ogg pages (RFC 3533 §6) of one logical stream: written one after another, and found again in a damaged file.

const HEADER_BYTES: usize = 27;
const MAX_SEGMENTS: usize = 255;

/// RFC 3533 §6, header type flag.
const FIRST_PAGE: u8 = 0x02;
const LAST_PAGE: u8 = 0x04;
const CONTINUED: u8 = 0x01;

/// RFC 3533 §6: polynomial 0x04c11db7, no reflection, start and end zero.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = (index as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 0x8000_0000 == 0 { value << 1 } else { (value << 1) ^ 0x04c1_1db7 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

fn crc(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(0, |crc: u32, byte| {
        let index = usize::from(crc.to_be_bytes()[0] ^ byte);
        (crc << 8) ^ CRC_TABLE.get(index).copied().unwrap_or(0)
    })
}

/// The position of a page on which no packet ends.
const NO_POSITION: u64 = u64::MAX;

/// Collects packets and turns them into whole pages. Packets never run across pages: none of ours is longer than
/// one page holds.
#[derive(Debug)]
pub struct PageWriter {
    serial: u32,
    sequence: u32,
    lacing: Vec<u8>,
    body: Vec<u8>,
    position: u64,
}

impl PageWriter {
    pub fn new(serial: u32) -> Self {
        Self::resumed(serial, 0, 0)
    }

    /// Goes on after page `sequence - 1`.
    pub fn resumed(serial: u32, sequence: u32, position: u64) -> Self {
        Self { serial, sequence, lacing: Vec::new(), body: Vec::new(), position }
    }

    /// Adds a packet that ends at `position`; closes the page before it into `out` if it would not fit.
    pub fn packet(&mut self, packet: &[u8], position: u64, out: &mut Vec<u8>) {
        let segments = packet.len() / 255 + 1;
        if self.lacing.len() + segments > MAX_SEGMENTS {
            self.close_page(out);
        }
        self.lacing.extend(std::iter::repeat_n(u8::MAX, segments - 1));
        self.lacing.push(u8::try_from(packet.len() % 255).unwrap_or(0));
        self.body.extend_from_slice(packet);
        self.position = position;
    }

    /// Closes the open page, if it holds anything.
    pub fn close_page(&mut self, out: &mut Vec<u8>) {
        if !self.lacing.is_empty() {
            self.emit(0, out);
        }
    }

    /// Ends the stream with the open page, or an empty one.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.emit(LAST_PAGE, out);
    }

    fn emit(&mut self, flags: u8, out: &mut Vec<u8>) {
        let start = out.len();
        let first = if self.sequence == 0 { FIRST_PAGE } else { 0 };
        out.extend_from_slice(b"OggS");
        out.extend_from_slice(&[0, flags | first]);
        out.extend_from_slice(&self.position.to_le_bytes());
        out.extend_from_slice(&self.serial.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.push(u8::try_from(self.lacing.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(&self.lacing);
        out.extend_from_slice(&self.body);
        let sum = crc(out.iter().skip(start).copied()).to_le_bytes();
        for (byte, value) in out.iter_mut().skip(start + 22).zip(sum) {
            *byte = value;
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.lacing.clear();
        self.body.clear();
    }
}

/// A page found whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<'a> {
    pub serial: u32,
    pub sequence: u32,
    /// The position at which its last packet ends, if one ends on it.
    pub position: Option<u64>,
    pub last: bool,
    continued: bool,
    lacing: &'a [u8],
    body: &'a [u8],
    bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    #[error("the file ends inside a page")]
    Truncated,
    #[error("no Ogg page begins here")]
    NoPage,
    #[error("the page's checksum is wrong")]
    Checksum,
    #[error("a packet runs across pages, which this recorder never writes")]
    Continued,
}

impl<'a> Page<'a> {
    /// Reads the page at the start of `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PageError> {
        let (header, rest) = bytes.split_at_checked(HEADER_BYTES).ok_or(PageError::Truncated)?;
        let Some(fields) = Header::read(header) else { return Err(PageError::NoPage) };
        let (lacing, rest) = rest.split_at_checked(fields.segments).ok_or(PageError::Truncated)?;
        let length = lacing.iter().map(|lace| usize::from(*lace)).sum();
        let body = rest.get(..length).ok_or(PageError::Truncated)?;
        let zeroed = header.iter().enumerate().map(|(at, byte)| if (22..26).contains(&at) { 0 } else { *byte });
        let sum = crc(zeroed.chain(lacing.iter().copied()).chain(body.iter().copied()));
        if sum != fields.checksum {
            return Err(PageError::Checksum);
        }
        let continued = fields.flags & CONTINUED != 0 || lacing.last() == Some(&u8::MAX);
        Ok(Self {
            serial: fields.serial,
            sequence: fields.sequence,
            position: (fields.position != NO_POSITION).then_some(fields.position),
            last: fields.flags & LAST_PAGE != 0,
            continued,
            lacing,
            body,
            bytes: HEADER_BYTES + lacing.len() + length,
        })
    }

    /// The length of the page in the file.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its packets in order.
    pub fn packets(&self) -> Result<Vec<&'a [u8]>, PageError> {
        if self.continued {
            return Err(PageError::Continued);
        }
        let mut packets = Vec::new();
        let (mut rest, mut length) = (self.body, 0);
        for lace in self.lacing {
            length += usize::from(*lace);
            if *lace < u8::MAX {
                let (packet, after) = rest.split_at_checked(length).ok_or(PageError::Truncated)?;
                packets.push(packet);
                (rest, length) = (after, 0);
            }
        }
        Ok(packets)
    }
}

struct Header {
    flags: u8,
    position: u64,
    serial: u32,
    sequence: u32,
    checksum: u32,
    segments: usize,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        if !bytes.starts_with(b"OggS\0") {
            return None;
        }
        Some(Self {
            flags: *bytes.get(5)?,
            position: u64::from(word(6)?) | u64::from(word(10)?) << 32,
            serial: word(14)?,
            sequence: word(18)?,
            checksum: word(22)?,
            segments: usize::from(*bytes.get(26)?),
        })
    }
}

/// The whole pages at the start of `bytes`, in order; stops before the first damaged one.
pub fn pages(bytes: &[u8]) -> impl Iterator<Item = Page<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let page = Page::parse(rest).ok()?;
        rest = rest.get(page.bytes()..)?;
        Some(page)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = PageWriter::new(7);
        for n in 0..600_usize {
            let packet = vec![u8::try_from(n % 256).unwrap(); n];
            writer.packet(&packet, n as u64 * 960, &mut out);
        }
        writer.close_page(&mut out);
        writer.finish(&mut out);
        out
    }

    #[test]
    fn packets_of_every_length_come_back() {
        let bytes = stream();
        let packets: Vec<_> = pages(&bytes).flat_map(|page| page.packets().unwrap()).collect();
        assert_eq!(packets.len(), 600);
        assert!(packets.iter().enumerate().all(|(n, packet)| packet.len() == n));
        let whole: usize = pages(&bytes).map(|page| page.bytes()).sum();
        assert_eq!(whole, bytes.len());
        assert!(pages(&bytes).last().unwrap().last);
        assert!(pages(&bytes).enumerate().all(|(n, page)| page.sequence == u32::try_from(n).unwrap()));
    }

    #[test]
    fn the_ogg_crate_reads_what_is_written() {
        let mut reader = ogg::PacketReader::new(std::io::Cursor::new(stream()));
        for n in 0..600 {
            let packet = reader.read_packet().unwrap().unwrap();
            assert_eq!((packet.data.len(), packet.stream_serial()), (n, 7));
        }
    }

    #[test]
    fn a_cut_or_flipped_file_gives_its_whole_pages_and_nothing_else() {
        let bytes = stream();
        let ends: Vec<usize> = pages(&bytes)
            .scan(0, |at, page| {
                *at += page.bytes();
                Some(*at)
            })
            .collect();
        for cut in (0..bytes.len()).step_by(97) {
            let found: usize = pages(&bytes[..cut]).map(|page| page.bytes()).sum();
            assert!(found <= cut && (found == 0 || ends.contains(&found)));
            let mut flipped = bytes.clone();
            flipped[cut] ^= 0x10;
            let kept: usize = pages(&flipped).map(|page| page.bytes()).sum();
            assert!(kept <= cut, "the damaged page is not taken");
        }
        assert_eq!(Page::parse(b"OggS"), Err(PageError::Truncated));
        assert_eq!(Page::parse(&[0; 64]), Err(PageError::NoPage));
    }
}
