//! The command line as getopt takes it apart for coturn: what is about the run itself, and options of the file.
use super::table::OPTIONS;
use super::{find, short};

/// What stands on a command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// `-c FILE`.
    pub file: Option<String>,
    /// `-n`: no file is read.
    pub no_file: bool,
    pub help: bool,
    pub version: bool,
    /// Says what would be said at the start, and nothing more.
    pub check: bool,
    /// Options of the file, for [`super::Reading::add_arguments`].
    pub rest: Vec<String>,
}

impl CommandLine {
    /// Takes apart what follows the program's name.
    #[must_use]
    pub fn of(arguments: impl IntoIterator<Item = String>) -> Self {
        let mut line = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            if let Some(long) = argument.strip_prefix("--") {
                line.take_long(&argument, long, &mut arguments);
            } else if let Some(letters) = argument.strip_prefix('-') {
                line.take_letters(letters, &mut arguments);
            } else {
                line.rest.push(argument);
            }
        }
        line
    }

    fn take_long(&mut self, whole: &str, long: &str, arguments: &mut impl Iterator<Item = String>) {
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        match name {
            "config" | "c" => self.file = value.map(str::to_owned).or_else(|| arguments.next()),
            "n" => self.no_file = true,
            "help" | "h" => self.help = true,
            "version" => self.version = true,
            "check-config" => self.check = true,
            _ => {
                self.rest.push(whole.to_owned());
                // A value that looks like a switch is a value.
                if value.is_none() && find(name).is_some_and(|spec| spec.kind.needs_value()) {
                    self.rest.extend(arguments.next());
                }
            }
        }
    }

    /// `-nv`, `-c/etc/turnserver.conf`, `-vc /etc/turnserver.conf`: the first letter that takes a value has the rest of the
    /// word, or the next one.
    fn take_letters(&mut self, letters: &str, arguments: &mut impl Iterator<Item = String>) {
        let mut passed = String::from("-");
        let mut next = None;
        for (at, letter) in letters.char_indices() {
            let behind = letters.get(at + letter.len_utf8()..).unwrap_or_default();
            match (letter, short(letter)) {
                ('n', _) => self.no_file = true,
                ('h', _) => self.help = true,
                ('c', _) => {
                    let value = behind.trim_start_matches('=');
                    self.file = if value.is_empty() { arguments.next() } else { Some(value.to_owned()) };
                    break;
                }
                (_, Some(spec)) if !spec.kind.needs_value() => passed.push(letter),
                (_, known) => {
                    passed.push_str(letters.get(at..).unwrap_or_default());
                    if known.is_some() && behind.is_empty() {
                        next = arguments.next();
                    }
                    break;
                }
            }
        }
        // A dash alone is no option, and is said to be none.
        if passed.len() > 1 || letters.is_empty() {
            self.rest.push(passed);
        }
        self.rest.extend(next);
    }

    /// The words of `--help`: every option that acts, with its letter.
    #[must_use]
    pub fn help() -> String {
        let mut text = String::from(
            "Usage: offhook-turn [-c FILE | -n] [OPTION...]\n\n  -c, --config FILE  the configuration; without it turnserver.conf, \
             /etc/turnserver.conf or\n                     /etc/coturn/turnserver.conf, whichever is there first\n  -n                 \
             no configuration but this command line\n      --check-config say what would be said at the start, and end\n  \
             -h, --help         this\n      --version      which version this is\n\nOptions as in a turnserver.conf, which they \
             override (--name=value, or the letter):\n\n",
        );
        for spec in OPTIONS.iter().filter(|spec| !spec.kind.is_idle()) {
            let letter = spec.short.map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
            let value = if spec.kind.needs_value() { " VALUE" } else { "" };
            text.push_str(&format!("  {letter}--{}{value}\n", spec.name));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &str) -> CommandLine {
        CommandLine::of(words.split(' ').map(str::to_owned))
    }

    #[test]
    fn the_file_is_named_as_getopt_lets_one_name_it() {
        for words in
            ["-c /etc/x.conf", "-c/etc/x.conf", "-c=/etc/x.conf", "--config /etc/x.conf", "--config=/etc/x.conf"]
        {
            assert_eq!(
                of(words),
                CommandLine { file: Some("/etc/x.conf".into()), ..CommandLine::default() },
                "{words}"
            );
        }
        let rest = vec!["-v".to_owned()];
        let both = CommandLine { file: Some("x".into()), rest: rest.clone(), ..CommandLine::default() };
        assert_eq!((of("-vc x"), of("-vcx")), (both.clone(), both));
        assert_eq!(of("-c").file, None);
        for words in ["-vn", "-nv", "-v -n", "-v --n"] {
            assert_eq!(
                of(words),
                CommandLine { no_file: true, rest: rest.clone(), ..CommandLine::default() },
                "{words}"
            );
        }
        assert!(of("-h").help && of("--help").help && of("-vh").help && of("--version").version);
        assert!(of("--check-config").check);
    }

    #[test]
    fn values_are_left_to_their_options() {
        for words in
            ["-r -n", "--realm -n", "-u -c", "-rn", "-J -h", "-zr -n", "--realm=-n", "-L127.0.0.1", "- -%", "x"]
        {
            let expected: Vec<&str> = words.split(' ').collect();
            assert_eq!(
                of(words),
                CommandLine {
                    rest: expected.iter().map(|word| (*word).to_owned()).collect(),
                    ..CommandLine::default()
                }
            );
        }
    }

    #[test]
    fn help_names_what_acts() {
        let text = CommandLine::help();
        assert!(text.contains("  -r, --realm VALUE\n") && text.contains("      --no-stun\n"), "{text}");
        assert!(!text.contains("redis") && text.lines().all(|line| line.len() < 100));
    }
}
