//! coturn's `turnserver.conf` and command line, read by coturn's rules.
//!
//! One option a line; the name ends at the first space, tab or `=`, and any run of these separates it from its value;
//! quotes around the value are optional; `#` begins a comment only at the start of a line; a bare name is true. What
//! nobody knows is warned about and passed over; only a peer range or an address that cannot be read stops the start,
//! since going on without it would open what somebody meant to close.
mod options;
mod table;

pub use options::{Conf, ConfUser, External, Family, Hidden, LogOptions, Prometheus, ServerSocket};

use table::{Kind, OPTIONS, Spec};

/// Something to say about a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// In the file; `None` for the command line.
    pub line: Option<usize>,
    pub option: String,
    pub remark: Remark,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Remark {
    #[error("does nothing here: {0}")]
    Nothing(&'static str),
    #[error("is no option of ours; did you mean {0}?")]
    UnknownNearly(&'static str),
    #[error("is no option of ours")]
    Unknown,
    #[error("needs a value")]
    NoValue,
    #[error("has a value that cannot be read, and is passed over: {expected}")]
    Ignored { expected: &'static str },
    #[error("has words behind its value, which do not count: only a whole line can be a comment")]
    Cut,
    /// The only one that stops the start.
    #[error("has a value that cannot be read: {0}")]
    Fatal(String),
}

impl Note {
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(self.remark, Remark::Fatal(_))
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {} {}", self.option, self.remark),
            None => write!(f, "--{} {}", self.option, self.remark),
        }
    }
}

/// What a file and a command line amount to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    pub conf: Conf,
    pub notes: Vec<Note>,
    /// Options that were said to do nothing: each is said once.
    idle: Vec<&'static str>,
}

/// More lines than any file has; what follows is not read.
const LINES_MAX: usize = 100_000;
/// In a note, of a name that somebody wrote.
const NAME_SHOWN: usize = 64;

impl Reading {
    /// Reads a file's text.
    pub fn add_file(&mut self, text: &str) {
        for (number, line) in (1..).zip(text.lines().take(LINES_MAX)) {
            if let Some((name, value)) = split_line(line) {
                self.apply(Some(number), name, value);
            }
        }
    }

    /// Reads a command line over what the file said; options that hold lists are added to.
    pub fn add_arguments<S: AsRef<str>>(&mut self, arguments: &[S]) {
        let mut rest = arguments.iter().map(AsRef::as_ref).peekable();
        while let Some(argument) = rest.next() {
            if !argument.starts_with('-') {
                self.note(None, argument, Remark::Unknown);
                continue;
            }
            let mut word = argument;
            loop {
                let Some(Argument { name, attached, cluster }) = split_argument(word) else {
                    self.note(None, word, Remark::Unknown);
                    break;
                };
                // As getopt: a value that may be left out comes with `=` only, so `--stale-nonce 10` is 600.
                let kind = find(name).map(|spec| &spec.kind);
                let value = match (attached, kind) {
                    (Some(value), _) => Some(value),
                    (None, Some(kind)) if kind.needs_value() => rest.next(),
                    // Whatever value it had goes with it.
                    (None, Some(Kind::Nothing(_))) => rest.next_if(|next| !next.starts_with('-')),
                    (None, _) => None,
                };
                self.apply(None, name, value.unwrap_or_default());
                match cluster {
                    Some(more) => word = more,
                    None => break,
                }
            }
        }
    }

    fn apply(&mut self, line: Option<usize>, name: &str, value: &str) {
        let Some(spec) = find(name) else {
            let remark = nearest(name).map_or(Remark::Unknown, Remark::UnknownNearly);
            return self.note(line, name, remark);
        };
        let Err(remark) = spec.kind.apply(&mut self.conf, value) else { return };
        if matches!(remark, Remark::Nothing(_)) {
            if self.idle.contains(&spec.name) {
                return;
            }
            self.idle.push(spec.name);
        }
        self.note(line, spec.name, remark);
    }

    fn note(&mut self, line: Option<usize>, option: &str, remark: Remark) {
        let option = option.chars().take(NAME_SHOWN).collect();
        self.notes.push(Note { line, option, remark });
    }

    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.notes.iter().any(Note::is_fatal)
    }
}

/// Name and value of a line; `None` for an empty one and a comment.
fn split_line(line: &str) -> Option<(&str, &str)> {
    const SEPARATORS: [char; 3] = [' ', '\t', '='];
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (name, value) = line.split_at(line.find(SEPARATORS).unwrap_or(line.len()));
    let value = value.trim_start_matches(SEPARATORS);
    Some((name, unquoted(value)))
}

fn unquoted(value: &str) -> &str {
    let Some(inner) = value.strip_prefix('"') else { return value };
    inner.strip_suffix('"').unwrap_or(inner)
}

/// One option of a command line.
struct Argument<'a> {
    name: &'a str,
    attached: Option<&'a str>,
    /// The letters behind a switch: `-az` is `-a` and `-z`.
    cluster: Option<&'a str>,
}

/// `--name`, `--name=value`, `-x`, `-xvalue`, or letters of switches.
fn split_argument(word: &str) -> Option<Argument<'_>> {
    if let Some(long) = word.strip_prefix("--") {
        let (name, attached) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        return Some(Argument { name, attached, cluster: None });
    }
    let letters = word.strip_prefix('-').unwrap_or(word);
    let letter = letters.chars().next()?;
    let spec = OPTIONS.iter().find(|spec| spec.short == Some(letter))?;
    let behind = letters.get(letter.len_utf8()..).filter(|behind| !behind.is_empty());
    let takes_value = spec.kind.needs_value();
    Some(Argument {
        name: spec.name,
        attached: behind.filter(|_| takes_value).map(|value| value.trim_start_matches('=')),
        cluster: behind.filter(|_| !takes_value),
    })
}

fn find(name: &str) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| spec.name == name)
}

/// A known name at most two letters away.
fn nearest(name: &str) -> Option<&'static str> {
    let worth = OPTIONS.iter().filter(|_| name.len() <= NAME_SHOWN);
    let (distance, spec) = worth.map(|spec| (distance(name, spec.name), spec)).min_by_key(|(distance, _)| *distance)?;
    (distance <= 2 && spec.name.len() > 4).then_some(spec.name)
}

/// Letters to add, drop or change.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (y, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let best = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Every option that has an effect, for whoever checks that each is tested.
pub fn acting() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().filter(|spec| !matches!(spec.kind, Kind::Nothing(_))).map(|spec| spec.name)
}
