//! Recent replies by message id: a repeated command is answered and not carried out again.
use crate::transport::Responder;
use offhook_contract::MessageId;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

const MAX_REPLIES: usize = 4_096;
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Repetitions that may wait for one command that is still being worked on.
const MAX_WAITING: usize = 8;

/// A command is the same when name and id are.
pub(crate) type CommandKey = (String, MessageId);

enum Entry {
    Working(Vec<Responder>),
    Answered(Arc<[u8]>),
}

/// What to do with a command that arrived.
pub(crate) enum Arrival {
    New(Responder),
    Repeated,
    /// Too many commands are being worked on.
    Overloaded(Responder),
}

pub(crate) struct Replies {
    entries: HashMap<CommandKey, Entry>,
    /// Answered ones, oldest first.
    answered: VecDeque<CommandKey>,
    bytes: usize,
    max_replies: usize,
    max_bytes: usize,
}

impl Default for Replies {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            answered: VecDeque::new(),
            bytes: 0,
            max_replies: MAX_REPLIES,
            max_bytes: MAX_BYTES,
        }
    }
}

impl Replies {
    /// Registers a command, or serves its repetition.
    pub(crate) fn arrive(&mut self, key: &CommandKey, responder: Responder) -> Arrival {
        let working = self.entries.len() - self.answered.len();
        match self.entries.get_mut(key) {
            Some(Entry::Answered(reply)) => {
                responder(reply.to_vec());
                Arrival::Repeated
            }
            Some(Entry::Working(waiting)) => {
                if waiting.len() < MAX_WAITING {
                    waiting.push(responder);
                }
                Arrival::Repeated
            }
            None if working >= self.max_replies => Arrival::Overloaded(responder),
            None => {
                self.entries.insert(key.clone(), Entry::Working(Vec::new()));
                Arrival::New(responder)
            }
        }
    }

    /// Keeps the reply and gives it to the repetitions that came meanwhile.
    pub(crate) fn answer(&mut self, key: CommandKey, reply: Vec<u8>) {
        let reply: Arc<[u8]> = reply.into();
        self.bytes += reply.len();
        if let Some(Entry::Working(waiting)) = self.entries.insert(key.clone(), Entry::Answered(reply.clone())) {
            for responder in waiting {
                responder(reply.to_vec());
            }
        }
        self.answered.push_back(key);
        while self.answered.len() > self.max_replies || self.bytes > self.max_bytes {
            let Some(oldest) = self.answered.pop_front() else { break };
            if let Some(Entry::Answered(reply)) = self.entries.remove(&oldest) {
                self.bytes -= reply.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn key(n: u32) -> CommandKey {
        ("open_room".into(), MessageId::parse(format!("m-{n}")).unwrap())
    }
    fn into(list: &Arc<Mutex<Vec<Vec<u8>>>>) -> Responder {
        let list = list.clone();
        Box::new(move |reply| list.lock().unwrap().push(reply))
    }

    #[test]
    fn a_repetition_during_the_work_and_one_after_it_get_the_first_reply() {
        let (mut replies, got) = (Replies::default(), Arc::new(Mutex::new(Vec::new())));
        assert!(matches!(replies.arrive(&key(1), into(&got)), Arrival::New(_)));
        assert!(matches!(replies.arrive(&key(1), into(&got)), Arrival::Repeated));
        assert!(got.lock().unwrap().is_empty());
        replies.answer(key(1), b"done".to_vec());
        assert!(matches!(replies.arrive(&key(1), into(&got)), Arrival::Repeated));
        assert_eq!(*got.lock().unwrap(), [b"done".to_vec(), b"done".to_vec()]);
        let other_name = ("close_room".to_owned(), key(1).1);
        assert!(matches!(replies.arrive(&other_name, into(&got)), Arrival::New(_)));
    }

    #[test]
    fn memory_is_bounded_by_count_and_by_bytes() {
        let mut replies = Replies { max_replies: 4, max_bytes: 100, ..Replies::default() };
        let got = Arc::new(Mutex::new(Vec::new()));
        for n in 0..50 {
            let _ = replies.arrive(&key(n), into(&got));
            replies.answer(key(n), vec![0; 40]);
        }
        assert_eq!((replies.entries.len(), replies.answered.len(), replies.bytes), (2, 2, 80));
        for n in 100..104 {
            assert!(matches!(replies.arrive(&key(n), into(&got)), Arrival::New(_)));
        }
        assert!(matches!(replies.arrive(&key(104), into(&got)), Arrival::Overloaded(_)));
    }
}
