//! coturn's `turnserver.conf` and command line, read by coturn's rules.
//!
//! One option a line; the name ends at the first space, tab or `=`, and any run of these separates it from its value;
//! quotes around the value are optional; `#` begins a comment only at the start of a line; a bare name is true. What
//! nobody knows is warned about and passed over; only a peer range or an address that cannot be read stops the start,
//! since going on without it would open what somebody meant to close.
mod command_line;
mod names;
mod options;
mod table;

pub use command_line::CommandLine;
pub use names::{NameError, NamedAddress};
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
    let spec = short(letter)?;
    let behind = letters.get(letter.len_utf8()..).filter(|behind| !behind.is_empty());
    let takes_value = spec.kind.needs_value();
    Some(Argument {
        name: spec.name,
        attached: behind.filter(|_| takes_value).map(|value| value.trim_start_matches('=')),
        cluster: behind.filter(|_| !takes_value),
    })
}

fn short(letter: char) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| spec.short == Some(letter))
}

fn find(name: &str) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| spec.name == name)
}

/// So many letters are taken for a slip.
const SLIPS: usize = 2;

/// A known name at most [`SLIPS`] letters away.
fn nearest(name: &str) -> Option<&'static str> {
    let near = OPTIONS.iter().filter_map(|spec| Some((slips(name, spec.name)?, spec)));
    let (_, spec) = near.min_by_key(|(slips, _)| *slips)?;
    (spec.name.len() > 4).then_some(spec.name)
}

/// Letters to add, drop or change, if they are no more than [`SLIPS`]. A file may hold [`LINES_MAX`] names that nobody
/// knows, so only the five diagonals that so few slips can reach are filled in.
fn slips(a: &str, b: &str) -> Option<usize> {
    const BAND: usize = 2 * SLIPS + 1;
    if a.len().abs_diff(b.len()) > SLIPS {
        return None;
    }
    let b = b.as_bytes();
    // Place `k` of row `i` stands for the first `i + k - SLIPS` letters of `b`.
    let mut row: [usize; BAND] = std::array::from_fn(|k| k.checked_sub(SLIPS).unwrap_or(SLIPS + 1));
    for (i, x) in (1..).zip(a.bytes()) {
        let mut next = [SLIPS + 1; BAND];
        let mut left = SLIPS + 1;
        for (k, cell) in next.iter_mut().enumerate() {
            let Some(j) = (i + k).checked_sub(SLIPS) else { continue };
            let above = row.get(k + 1).map_or(SLIPS + 1, |above| above + 1);
            let diagonal =
                j.checked_sub(1).and_then(|j| b.get(j)).zip(row.get(k)).map(|(y, d)| d + usize::from(x != *y));
            *cell = above.min(left + 1).min(diagonal.unwrap_or(if j == 0 { i } else { SLIPS + 1 }));
            left = *cell;
        }
        if next.iter().all(|cell| *cell > SLIPS) {
            return None;
        }
        row = next;
    }
    let at = (b.len() + SLIPS).checked_sub(a.len())?;
    row.get(at).copied().filter(|slips| *slips <= SLIPS)
}

/// Every option that has an effect, for whoever checks that each is tested.
pub fn acting() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().filter(|spec| !spec.kind.is_idle()).map(|spec| spec.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table, as everybody writes it down.
    fn distance(a: &[u8], b: &[u8]) -> usize {
        match (a, b) {
            ([], rest) | (rest, []) => rest.len(),
            ([x, a @ ..], [y, b @ ..]) if x == y => distance(a, b),
            ([_, less_a @ ..], [_, less_b @ ..]) => {
                1 + distance(less_a, b).min(distance(a, less_b)).min(distance(less_a, less_b))
            }
        }
    }

    #[test]
    fn few_slips_are_counted_as_the_whole_table_counts_them() {
        let words: Vec<String> = (0..400_usize)
            .map(|n| (0..n % 7).map(|at| ["a", "b", "c"][((n * 7_919) >> (2 * at)) % 3]).collect())
            .collect();
        for a in &words {
            for b in &words {
                let all = distance(a.as_bytes(), b.as_bytes());
                assert_eq!(slips(a, b), Some(all).filter(|all| *all <= SLIPS), "{a} {b}");
            }
        }
        assert_eq!((slips("usr-quota", "user-quota"), slips("user-quota", "total-quota")), (Some(1), None));
    }
}
