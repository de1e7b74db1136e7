//! baresip as a telephone with a real ear: plays a WAV and keeps what it hears as WAV files.
use crate::process::Process;
use crate::sound::{self, Heard};
use crate::trunk::TELEPHONE;
use crate::{ports, wait};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

#[derive(Debug)]
pub struct Baresip {
    pub process: Process,
    pub port: u16,
    control: u16,
    dump: PathBuf,
}

impl Baresip {
    /// Answers every call at once (`answer_mode=auto`) and plays `wav` (8 kHz mono; the call ends when the file does).
    pub fn start(folder: &Path, port: u16, wav: &Path, auto_answer: bool) -> Self {
        Self::start_as(folder, port, wav, auto_answer, None)
    }

    /// [`Baresip::start`] with a user and a password for those who demand them.
    pub fn start_as(folder: &Path, port: u16, wav: &Path, auto_answer: bool, user: Option<(&str, &str)>) -> Self {
        let home = folder.join(format!("baresip-{port}"));
        let dump = home.join("dump");
        std::fs::create_dir_all(&dump).unwrap();
        let control = ports::free();
        let modules = if Path::new("/usr/lib/baresip/modules").exists() {
            "/usr/lib/baresip/modules".to_owned()
        } else {
            "/usr/lib/x86_64-linux-gnu/baresip/modules".to_owned()
        };
        let media = ports::free_range(20);
        let config = format!(
            "poll_method epoll\nnet_interface 127.0.0.1\nsip_listen 127.0.0.1:{port}\naudio_player aufile,/dev/null\naudio_source aufile,{}\n\
             audio_alert aufile,/dev/null\ncall_max_calls 8\nrtp_ports {media}-{}\nsnd_path {}\nctrl_tcp_listen 127.0.0.1:{control}\nmodule_path {modules}\n\
             module g711.so\nmodule aufile.so\nmodule sndfile.so\nmodule_app account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n",
            wav.display(),
            media + 19,
            dump.display(),
        );
        std::fs::write(home.join("config"), config).unwrap();
        let mode = if auto_answer { "auto" } else { "manual" };
        let user = user.map_or_else(String::new, |(user, password)| format!(";auth_user={user};auth_pass={password}"));
        let account = format!(
            "<sip:{TELEPHONE}@127.0.0.1:{port}>;regint=0;answermode={mode};audio_codecs=PCMU,PCMA;ptime=20{user}\n"
        );
        std::fs::write(home.join("accounts"), account).unwrap();
        std::fs::write(home.join("contacts"), "").unwrap();
        let mut command = Command::new("baresip");
        command.arg("-f").arg(&home).arg("-v");
        let process = Process::start(&format!("baresip-{port}"), folder, &mut command);
        let baresip = Self { process, port, control, dump };
        wait::until("baresip's control port", wait::secs(10), || {
            TcpStream::connect(("127.0.0.1", control)).map(drop).map_err(|e| e.to_string())
        });
        baresip
    }

    /// Sends a command of baresip's menu ("hangup", "accept", "dial sip:…").
    pub fn command(&self, command: &str, params: &str) -> String {
        let json = format!("{{\"command\":\"{command}\",\"params\":\"{params}\",\"token\":\"t\"}}");
        let mut stream = TcpStream::connect(("127.0.0.1", self.control)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "{}:{json},", json.len()).unwrap();
        let mut bytes = [0; 8_192];
        let len = stream.read(&mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }

    pub fn dial(&self, uri: &str) {
        self.command("dial", uri);
    }

    /// Waits for the end of its call; only then is the kept sound complete.
    #[track_caller]
    pub fn wait_call_closed(&self) {
        wait::until("baresip's call to end", wait::secs(15), || {
            let log = self.process.log();
            let ended = ["session closed", "terminated (duration", "Call with"].iter().any(|words| log.contains(words));
            if ended { Ok(()) } else { Err("it goes on".into()) }
        });
    }

    /// The keys that it received as RFC 4733 events, in order; each event once, by its end.
    pub fn digits_heard(&self) -> String {
        let log = self.process.log();
        let lines = log.split(['\n', '\r']).filter(|l| l.contains("received event:") && l.contains("end=1"));
        lines.filter_map(|l| l.split('\'').nth(1)?.chars().next()).collect()
    }

    pub fn hang_up(&self) {
        self.command("hangup", "");
    }

    /// What it heard in its last call (the decoded side of sndfile's dump); complete once the call is over.
    pub fn heard(&self) -> Heard {
        let mut files: Vec<PathBuf> = std::fs::read_dir(&self.dump)
            .unwrap()
            .map_while(Result::ok)
            .map(|f| f.path())
            .filter(|p| p.to_string_lossy().contains("dec"))
            .collect();
        files.sort_by_key(|p| p.metadata().and_then(|m| m.modified()).ok());
        let last = files.last().unwrap_or_else(|| panic!("baresip kept no sound; its log:\n{}", self.process.log()));
        let (rate, mut channels) = sound::read_wav(last);
        Heard { rate, samples: channels.remove(0) }
    }
}
