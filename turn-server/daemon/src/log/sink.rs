//! Where lines go: standard output, a file with the date in its name, the system's log.
use offhook_turn_core::conf::LogOptions;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::Level;

const SYSLOG: &str = "/dev/log";
/// Facility daemon (RFC 5424 §6.2.1).
const FACILITY: u8 = 3;
const DAY_S: u64 = 86_400;
/// Where a file is looked for that nobody named: the first that can be written.
const FOLDERS: [&str; 5] = ["/var/log/turnserver", "/var/log", "/var/tmp", "/tmp", "."];

/// One set of places; a reload makes another.
#[derive(Default)]
pub(super) struct Sink {
    stdout: bool,
    file: Option<LogFile>,
    syslog: Option<Syslog>,
}

impl Sink {
    /// The places that the options name, and a sentence where one cannot be had. Standard output is the last resort: a
    /// log that is not there stops nobody.
    pub(super) fn of(options: &LogOptions) -> (Self, Option<String>) {
        let stdout = !options.no_stdout_log;
        match options.file.as_deref() {
            _ if options.syslog => (Self { stdout, syslog: Some(Syslog::default()), file: None }, None),
            Some("syslog") => (Self { stdout, syslog: Some(Syslog::default()), file: None }, None),
            Some("stdout" | "-") => (Self::stdout(), None),
            Some(path) => match LogFile::open(Path::new(path), options.simple_log) {
                Ok(file) => (Self { stdout, file: Some(file), syslog: None }, None),
                Err(error) => (Self::stdout(), Some(format!("cannot open the log file {path}: {error}"))),
            },
            // coturn writes a file beside standard output even when nobody asked for one; that it does not grow unseen
            // in a container, here only when there is no other place.
            None if options.no_stdout_log => match LogFile::anywhere(options.simple_log) {
                Some(file) => (Self { file: Some(file), ..Self::default() }, None),
                None => (Self::stdout(), Some("no log file can be opened".to_owned())),
            },
            None => (Self::stdout(), None),
        }
    }

    pub(super) fn stdout() -> Self {
        Self { stdout: true, ..Self::default() }
    }

    /// The file that is written now.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.file.as_ref().map(LogFile::path)
    }

    pub(super) fn write(&self, level: Level, line: &[u8]) {
        if self.stdout {
            let _ = io::stdout().write_all(line);
        }
        if let Some(file) = &self.file {
            file.write(line, today());
        }
        if let Some(syslog) = &self.syslog {
            syslog.write(level, line);
        }
    }
}

fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / DAY_S)
}

/// A file; unless `simple-log` is set, another one each day.
struct LogFile {
    base: PathBuf,
    dated: bool,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    path: PathBuf,
    day: u64,
}

impl LogFile {
    fn open(base: &Path, simple: bool) -> io::Result<Self> {
        // A device (`/dev/null`, `/dev/stdout`) has no date.
        let dated = !simple && !std::fs::metadata(base).is_ok_and(|found| !found.is_file());
        let day = today();
        let path = if dated { dated_name(base, day) } else { base.to_owned() };
        let file = append(&path)?;
        Ok(Self { base: base.to_owned(), dated, open: Mutex::new(Open { file, path, day }) })
    }

    fn anywhere(simple: bool) -> Option<Self> {
        let name = if simple { "turn.log".to_owned() } else { format!("turn_{}_", std::process::id()) };
        FOLDERS.iter().find_map(|folder| Self::open(&Path::new(folder).join(&name), simple).ok())
    }

    fn path(&self) -> PathBuf {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).path.clone()
    }

    fn write(&self, line: &[u8], today: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.dated && open.day != today {
            open.day = today;
            let path = dated_name(&self.base, today);
            // Where the new one cannot be made the old one goes on.
            if let Ok(file) = append(&path) {
                open.file = file;
                open.path = path;
            }
        }
        let _ = open.file.write_all(line);
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// `turn.log` becomes `turn_2026-11-21.log`, as coturn names it; the day is UTC's, like the times in the lines.
fn dated_name(base: &Path, day: u64) -> PathBuf {
    let name = base.file_name().map(|name| name.to_string_lossy().replace([' ', '\t'], "_")).unwrap_or_default();
    let (stem, tail) = match name.rfind('.') {
        Some(at) if at + 1 < name.len() => name.split_at(at),
        Some(at) => (name.get(..at).unwrap_or_default(), ".log"),
        None => (name.as_str(), ".log"),
    };
    let joint = if stem.is_empty() || stem.ends_with(['-', '_']) { "" } else { "_" };
    base.with_file_name(format!("{stem}{joint}{}{tail}", date(day)))
}

/// Year, month and day of a day since 1970 in the Gregorian calendar, counted from 1 March of the year 0.
fn date(day: u64) -> String {
    let days = day + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{of_month:02}")
}

/// One line, one datagram. Nobody may listen yet, and who listens may go and come again.
#[derive(Default)]
struct Syslog(Mutex<Option<UnixDatagram>>);

impl Syslog {
    fn write(&self, level: Level, line: &[u8]) {
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut message = format!("<{}>offhook-turn: ", FACILITY * 8 + severity(level)).into_bytes();
        message.extend_from_slice(line.trim_ascii_end());
        if socket.as_ref().is_some_and(|socket| socket.send(&message).is_ok()) {
            return;
        }
        *socket = connect().ok();
        if let Some(socket) = &*socket {
            let _ = socket.send(&message);
        }
    }
}

fn connect() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(SYSLOG)?;
    // A log that stalls does not stall the server.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// RFC 5424 §6.2.1.
const fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        for (day, shown) in [(0, "1970-01-01"), (11_016, "2000-02-29"), (20_778, "2026-11-21"), (47_540, "2100-02-28")]
        {
            assert_eq!(date(day), shown);
        }
    }

    #[test]
    fn names_carry_the_date_as_coturns_do() {
        for (base, shown) in [
            ("/var/log/turn.log", "/var/log/turn_2026-11-21.log"),
            ("/var/log/turn_7_", "/var/log/turn_7_2026-11-21.log"),
            ("turn", "turn_2026-11-21.log"),
            ("a b-.txt", "a_b-2026-11-21.txt"),
            ("/x.d/turn.", "/x.d/turn_2026-11-21.log"),
        ] {
            assert_eq!(dated_name(Path::new(base), 20_778), Path::new(shown), "{base}");
        }
    }

    #[test]
    fn a_new_day_begins_a_new_file_and_a_simple_log_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("turn.log");
        let dated = LogFile::open(&base, false).unwrap();
        dated.write(b"one\n", today());
        dated.write(b"two\n", 20_000);
        assert_eq!(std::fs::read_to_string(dated_name(&base, today())).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(folder.path().join("turn_2024-10-04.log")).unwrap(), "two\n");
        let simple = LogFile::open(&base, true).unwrap();
        simple.write(b"one\n", 1);
        simple.write(b"two\n", 2);
        assert_eq!(std::fs::read_to_string(&base).unwrap(), "one\ntwo\n");
        assert!(!LogFile::open(Path::new("/dev/null"), false).unwrap().dated);
    }
}
