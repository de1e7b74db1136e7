//! Reading a recording's own files piece by piece, and their checksums.
use offhook_contract::CodecName;
use offhook_contract::fact::FileRow;
use offhook_recorder_core::consent::hex;
use offhook_recorder_core::{g711_file, ogg};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const OGG_HEADER: usize = 27;
/// RFC 7845 §3: two header packets stand before the audio.
const OPUS_HEADERS: usize = 2;
const G711_FIXED: usize = 17;

/// The packets of a run's file in order; ends at the file's end or its first damage.
#[derive(Debug)]
pub struct PacketFile {
    from: BufReader<File>,
    codec: CodecName,
    page: VecDeque<Vec<u8>>,
    headers_left: usize,
}

impl PacketFile {
    pub fn open(path: &Path, codec: CodecName) -> io::Result<Self> {
        let mut from = BufReader::with_capacity(1 << 16, File::open(path)?);
        let mut headers_left = 0;
        if codec == CodecName::Opus {
            headers_left = OPUS_HEADERS;
        } else {
            let mut magic = g711_file::MAGIC;
            from.read_exact(&mut magic)?;
        }
        Ok(Self { from, codec, page: VecDeque::new(), headers_left })
    }

    fn more(&mut self, bytes: &mut Vec<u8>, count: usize) -> Option<()> {
        let at = bytes.len();
        bytes.resize(at + count, 0);
        self.from.read_exact(bytes.get_mut(at..)?).ok()
    }

    fn next_g711(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(256);
        self.more(&mut bytes, G711_FIXED)?;
        let length = usize::from(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?));
        self.more(&mut bytes, length + 4)?;
        g711_file::parse(&bytes).map(|(frame, _)| frame.payload.to_vec())
    }

    fn next_page(&mut self) -> Option<()> {
        let mut bytes = Vec::with_capacity(4_096);
        self.more(&mut bytes, OGG_HEADER)?;
        let segments = usize::from(*bytes.last()?);
        self.more(&mut bytes, segments)?;
        let length = bytes.get(OGG_HEADER..)?.iter().map(|lace| usize::from(*lace)).sum();
        self.more(&mut bytes, length)?;
        let packets = ogg::Page::parse(&bytes).ok()?.packets().ok()?;
        let skipped = self.headers_left.min(packets.len());
        self.headers_left -= skipped;
        self.page.extend(packets.into_iter().skip(skipped).map(<[u8]>::to_vec));
        Some(())
    }
}

impl Iterator for PacketFile {
    type Item = Vec<u8>;
    fn next(&mut self) -> Option<Vec<u8>> {
        if self.codec != CodecName::Opus {
            return self.next_g711();
        }
        while self.page.is_empty() {
            self.next_page()?;
        }
        self.page.pop_front()
    }
}

/// A file's length and SHA-256; `name` is relative to `directory`.
pub fn checksum(directory: &Path, name: &str) -> io::Result<FileRow> {
    let mut file = File::open(directory.join(name))?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        hash.update(buffer.get(..read).unwrap_or_default());
    }
    Ok(FileRow { name: name.to_owned(), bytes, sha256: hex(&hash.finalize()) })
}
