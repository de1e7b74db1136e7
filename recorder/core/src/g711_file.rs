//! G.711 has no place in Ogg, so its packets lie in frames of our own:
//! file: `OHG7` and a version byte; frame: payload length u16, media time u64 (ns), RTP timestamp u32, RTP sequence u16,
//! codec u8 (0 PCMU, 8 PCMA, as RFC 3551 numbers them), payload, CRC-32 of all before it. Big-endian.
use offhook_contract::CodecName;

pub const MAGIC: [u8; 5] = *b"OHG7\x01";
const FIXED_BYTES: usize = 17;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    pub media_ns: u64,
    pub timestamp: u32,
    pub sequence: u16,
    pub codec: CodecName,
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Appends the frame. Payloads over 64 KiB do not come over a network.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&u16::try_from(self.payload.len()).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(&self.media_ns.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.push(self.codec.link_payload_type());
        out.extend_from_slice(self.payload);
        let sum = crc32fast::hash(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&sum.to_be_bytes());
    }
}

/// The frame at the start of `bytes` and its length in the file; `None` if it is cut or damaged.
pub fn parse(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let length = usize::from(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?));
    let whole = bytes.get(..FIXED_BYTES + length)?;
    let sum = bytes.get(FIXED_BYTES + length..FIXED_BYTES + length + 4)?;
    if crc32fast::hash(whole).to_be_bytes() != *sum {
        return None;
    }
    let codec = CodecName::from_link_payload_type(*whole.get(16)?).filter(|codec| *codec != CodecName::Opus)?;
    let frame = Frame {
        media_ns: u64::from_be_bytes(whole.get(2..10)?.try_into().ok()?),
        timestamp: u32::from_be_bytes(whole.get(10..14)?.try_into().ok()?),
        sequence: u16::from_be_bytes(whole.get(14..16)?.try_into().ok()?),
        codec,
        payload: whole.get(FIXED_BYTES..)?,
    };
    Some((frame, whole.len() + 4))
}

/// The frames of a file up to the first damage.
pub fn frames(bytes: &[u8]) -> impl Iterator<Item = (Frame<'_>, usize)> {
    let mut rest = bytes.strip_prefix(&MAGIC).unwrap_or_default();
    std::iter::from_fn(move || {
        let (frame, length) = parse(rest)?;
        rest = rest.get(length..)?;
        Some((frame, length))
    })
}

/// The bytes that hold at most `packets` whole frames; `None` if the file does not begin as one of ours.
pub fn salvage(bytes: &[u8], packets: u64) -> Option<(usize, u64)> {
    bytes.starts_with(&MAGIC).then(|| {
        let limit = usize::try_from(packets).unwrap_or(usize::MAX);
        frames(bytes).take(limit).fold((MAGIC.len(), 0), |(at, count), (_, length)| (at + length, count + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for n in 0..10_u16 {
            let payload = vec![0x55; usize::from(n) * 20];
            Frame {
                media_ns: u64::from(n) * 20_000_000,
                timestamp: u32::from(n) * 160,
                sequence: n,
                codec: CodecName::Pcma,
                payload: &payload,
            }
            .encode(&mut out);
        }
        out
    }

    #[test]
    fn frames_come_back() {
        let bytes = file();
        let all: Vec<_> = frames(&bytes).map(|(frame, _)| (frame.sequence, frame.payload.len())).collect();
        assert_eq!(all, (0..10).map(|n| (n, usize::from(n) * 20)).collect::<Vec<_>>());
        assert_eq!(salvage(&bytes, 100).unwrap(), (bytes.len(), 10));
        assert_eq!(salvage(&bytes, 4).unwrap().1, 4);
    }

    #[test]
    fn a_cut_or_flipped_frame_ends_the_file() {
        let bytes = file();
        assert_eq!(frames(&bytes[..bytes.len() - 1]).count(), 9);
        for at in 5..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(frames(&flipped).count() < 10);
        }
        assert_eq!(salvage(b"RIFF", 10), None);
    }
}
