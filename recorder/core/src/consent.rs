//! The consent log: one JSON object per line, each carrying the SHA-256 of the line before it, so that no line can
//! be changed, removed or put in without breaking the chain.
use offhook_contract::fact::ConsentKind;
use offhook_contract::{CallId, RecordingId, TenantId, UnixMs};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub const FILE_NAME: &str = "consent.jsonl";
/// The `prev` of the first line.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentEvent {
    RecordingStarted,
    /// From its first to its last packet on the Announcer, as the Tap carries it.
    Played {
        announcement: ConsentKind,
        ended_ms: UnixMs,
    },
    SegmentStarted {
        gap_ms: u64,
    },
    RecordingStopped {
        reason: crate::input::CloseReason,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentLine {
    pub seq: u64,
    pub at_ms: UnixMs,
    pub tenant: TenantId,
    pub call: CallId,
    pub recording: RecordingId,
    pub segment: u32,
    pub event: ConsentEvent,
    pub prev: String,
}

/// Where the chain stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentChain {
    next: u64,
    head: String,
}

impl Default for ConsentChain {
    fn default() -> Self {
        Self { next: 1, head: NOTHING.to_owned() }
    }
}

/// What a line is about, besides the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub tenant: TenantId,
    pub call: CallId,
    pub recording: RecordingId,
}

impl ConsentChain {
    /// Appends a line.
    pub fn append(&mut self, about: &About, segment: u32, at_ms: UnixMs, event: ConsentEvent, out: &mut Vec<u8>) {
        let line = ConsentLine {
            seq: self.next,
            at_ms,
            tenant: about.tenant.clone(),
            call: about.call.clone(),
            recording: about.recording.clone(),
            segment,
            event,
            prev: self.head.clone(),
        };
        // Plain data: serde_json cannot fail on it.
        let text = serde_json::to_string(&line).unwrap_or_default();
        self.head = hex(&Sha256::digest(text.as_bytes()));
        self.next += 1;
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }

    /// SHA-256 of the last line.
    pub fn head(&self) -> &str {
        &self.head
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The log read back: its whole, chained lines; where the chain stands after them; the bytes they take.
#[derive(Debug, PartialEq, Eq)]
pub struct ConsentLog {
    pub lines: Vec<ConsentLine>,
    pub chain: ConsentChain,
    pub bytes: usize,
}

/// Reads lines as long as they are whole and the chain holds.
pub fn read(bytes: &[u8]) -> ConsentLog {
    let mut log = ConsentLog { lines: Vec::new(), chain: ConsentChain::default(), bytes: 0 };
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(text) = line.strip_suffix(b"\n") else { break };
        let Ok(parsed) = serde_json::from_slice::<ConsentLine>(text) else { break };
        if parsed.prev != log.chain.head || parsed.seq != log.chain.next {
            break;
        }
        log.chain = ConsentChain { next: parsed.seq + 1, head: hex(&Sha256::digest(text)) };
        log.bytes += line.len();
        log.lines.push(parsed);
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Vec<u8> {
        let about = About {
            tenant: TenantId::parse("t").unwrap(),
            call: CallId::parse("c").unwrap(),
            recording: RecordingId::parse("r").unwrap(),
        };
        let mut out = Vec::new();
        let mut chain = ConsentChain::default();
        chain.append(&about, 1, UnixMs(1_000), ConsentEvent::RecordingStarted, &mut out);
        for n in 0..5 {
            let event = ConsentEvent::Played { announcement: ConsentKind::Beep, ended_ms: UnixMs(n + 200) };
            chain.append(&about, 1, UnixMs(n), event, &mut out);
        }
        out
    }

    #[test]
    fn the_chain_holds_over_what_was_written() {
        let bytes = log();
        let read = read(&bytes);
        assert_eq!((read.lines.len(), read.bytes), (6, bytes.len()));
    }

    #[test]
    fn a_changed_removed_or_cut_line_breaks_the_chain_there() {
        let bytes = log();
        let lines: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let mut removed = lines.clone();
        removed.remove(2);
        assert_eq!(read(&removed.concat()).lines.len(), 2);
        let changed = String::from_utf8(bytes.clone()).unwrap().replacen("\"at_ms\":1,", "\"at_ms\":9,", 1);
        assert_eq!(read(changed.as_bytes()).lines.len(), 3, "the line after the changed one no longer fits");
        assert_eq!(read(&bytes[..bytes.len() - 1]).lines.len(), 5);
    }
}
