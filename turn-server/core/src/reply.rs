//! Answers on their way to clients: one arena, cleared when the shell has sent them.
use crate::auth::Seal;
use crate::path::ClientPath;
use crate::shard::Shard;
use offhook_wire_stun::{Class, Message, MessageBuilder, Method, TransactionId};
use std::net::IpAddr;
use std::ops::Range;

/// An answer is never longer: the longest realm, nonce and two addresses leave room.
pub(crate) const REPLY_MAX: usize = 1_280;
/// More than one batch of requests calls for; beyond it answers are dropped, as on any network.
const REPLIES_MAX: usize = 2_048;

/// A message to a client.
#[derive(Debug, Clone, Copy)]
pub struct Transmit<'a> {
    pub path: &'a ClientPath,
    pub bytes: &'a [u8],
}

#[derive(Default)]
pub(crate) struct Replies {
    bytes: Vec<u8>,
    entries: Vec<(ClientPath, Range<usize>)>,
}

impl Replies {
    pub(crate) fn push(&mut self, path: ClientPath, message: &[u8]) -> bool {
        if self.entries.len() >= REPLIES_MAX {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message);
        self.entries.push((path, start..self.bytes.len()));
        true
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Transmit<'_>> {
        self.entries
            .iter()
            .map(|(path, range)| Transmit { path, bytes: self.bytes.get(range.clone()).unwrap_or_default() })
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }
}

/// What remains of a request for whoever answers it, at once or when a socket is open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) path: ClientPath,
    method: Method,
    pub(crate) transaction: TransactionId,
    pub(crate) fingerprint: bool,
    /// Of the request, in bytes.
    pub(crate) length: usize,
}

impl Asked {
    pub(crate) const fn of(path: &ClientPath, request: &Message<'_>) -> Self {
        Self {
            path: *path,
            method: request.method(),
            transaction: request.transaction_id(),
            fingerprint: request.has_fingerprint(),
            length: request.as_bytes().len(),
        }
    }

    pub(crate) fn answer<'b>(&self, buffer: &'b mut [u8], class: Class) -> MessageBuilder<'b> {
        MessageBuilder::new(buffer, class, self.method, self.transaction)
    }
}

impl Shard {
    /// Answers with what `write` adds.
    pub(crate) fn succeed(&mut self, asked: &Asked, seal: &Seal, write: impl FnOnce(&mut MessageBuilder<'_>)) {
        let mut buffer = [0; REPLY_MAX];
        let mut answer = asked.answer(&mut buffer, Class::Success);
        write(&mut answer);
        if let (Some(software), false) = (&self.settings.software, *seal == Seal::Open) {
            answer.software(software);
        }
        let length = self.finish(asked, seal, &mut answer);
        if let Some(message) = length.and_then(|length| buffer.get(..length)) {
            self.reply(asked.path, message);
        }
    }

    pub(crate) fn fail(&mut self, asked: &Asked, seal: &Seal, code: u16, write: impl FnOnce(&mut MessageBuilder<'_>)) {
        let mut buffer = [0; REPLY_MAX];
        let mut answer = asked.answer(&mut buffer, Class::Error);
        // Nobody known reads it, and it is length that a stranger gains.
        answer.error_code(code, if *seal == Seal::Open { "" } else { reason(code) });
        write(&mut answer);
        let length = self.finish(asked, seal, &mut answer);
        if let Some(message) = length.and_then(|length| buffer.get(..length)) {
            self.reply(asked.path, message);
        }
    }

    pub(crate) fn finish(&self, asked: &Asked, seal: &Seal, answer: &mut MessageBuilder<'_>) -> Option<usize> {
        seal.close(answer);
        if self.settings.fingerprint || asked.fingerprint {
            answer.fingerprint();
        }
        answer.finish().ok()
    }

    pub(crate) fn reply(&mut self, path: ClientPath, message: &[u8]) {
        if !self.replies.push(path, message) {
            self.counters.dropped_replies += 1;
        }
    }
}

/// RFC 8489 §14.8 and RFC 8656 §19.
const fn reason(code: u16) -> &'static str {
    match code {
        400 => "Bad Request",
        403 => "Forbidden",
        420 => "Unknown Attribute",
        437 => "Allocation Mismatch",
        440 => "Address Family not Supported",
        441 => "Wrong Credentials",
        442 => "Unsupported Transport Protocol",
        443 => "Peer Address Family Mismatch",
        486 => "Allocation Quota Reached",
        508 => "Insufficient Capacity",
        _ => "",
    }
}

/// How long an answer to somebody unknown may be, so that he gains nothing by claiming another's address: 1.6 times his
/// request, both counted as they lie on the wire. A stream's other end has shown that it is there.
pub(crate) fn budget(path: &ClientPath, request_len: usize) -> usize {
    if path.is_stream() {
        return REPLY_MAX;
    }
    let headers = match path.client.ip() {
        IpAddr::V4(_) => 20 + 8,
        IpAddr::V6(_) => 40 + 8,
    };
    ((request_len + headers) * 8 / 5).saturating_sub(headers).min(REPLY_MAX)
}
