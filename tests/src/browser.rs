//! One Chromium with one microphone, through `tests/browser/driver.mjs`.
use crate::sound::{BROWSER_RATE, Heard};
use base64::Engine as _;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How an element is found: by role and accessible name, by label, by text.
#[derive(Debug, Clone)]
pub struct Find(Value);

pub fn role(role: &str, name: &str) -> Find {
    Find(json!({"role": role, "name": name}))
}
pub fn any_role(role: &str) -> Find {
    Find(json!({"role": role}))
}
/// A role whose whole name is this.
pub fn exact_role(role: &str, name: &str) -> Find {
    Find(json!({"role": role, "name": name, "exact": true}))
}
/// An element of a role that says something: an alert, a status.
pub fn says(role: &str, text: &str) -> Find {
    Find(json!({"role": role, "text": text}))
}
pub fn label(label: &str) -> Find {
    Find(json!({"label": label}))
}
pub fn text(text: &str) -> Find {
    Find(json!({"text": text}))
}
pub fn css(css: &str) -> Find {
    Find(json!({"css": css}))
}

pub struct Browser {
    child: Child,
    stdin: ChildStdin,
    replies: Receiver<Value>,
    notes: Arc<Mutex<String>>,
    next_id: u64,
    name: String,
    page: String,
}

/// What a browser is started with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub wav: Option<PathBuf>,
    pub microphone_denied: bool,
    pub listen: bool,
    pub narrow: bool,
    /// Runs before every page's own scripts.
    pub before: Option<String>,
    /// A network namespace to run in.
    pub namespace: Option<String>,
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Browser {
    /// A browser whose microphone plays `wav` for ever and whose ears are tapped.
    pub fn launch(name: &str, wav: &Path) -> Self {
        Self::launch_with(name, Options { wav: Some(wav.to_path_buf()), listen: true, ..Options::default() })
    }

    pub fn launch_with(name: &str, options: Options) -> Self {
        if let Some(wav) = &options.wav {
            assert!(wav.is_absolute() && wav.exists(), "Chromium is silent without a word when {wav:?} is not there");
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
        let mut command = match &options.namespace {
            None => Command::new("node"),
            Some(namespace) => {
                let mut inside = Command::new("ip");
                inside.args(["netns", "exec", namespace, "node"]);
                inside
            }
        };
        let mut child = command
            .arg("driver.mjs")
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("node is needed for the browser tests");
        let (sender, replies) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let Ok(value) = serde_json::from_str(&line) else { continue };
                if sender.send(value).is_err() {
                    break;
                }
            }
        });
        let notes = Arc::new(Mutex::new(String::new()));
        let (kept, mut stderr) = (Arc::clone(&notes), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(len @ 1..) = stderr.read(&mut bytes) {
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..len]));
            }
        });
        let stdin = child.stdin.take().unwrap();
        let mut browser = Self { child, stdin, replies, notes, next_id: 0, name: name.into(), page: "main".into() };
        let (width, height) = if options.narrow { (360, 740) } else { (1_000, 800) };
        browser.command(json!({
            "cmd": "launch", "wav": options.wav, "denied": options.microphone_denied, "listen": options.listen,
            "width": width, "height": height,
        }));
        if let Some(js) = &options.before {
            browser.before_each_page(js);
        }
        browser
    }

    /// The tab that the following commands mean; it exists once it is opened.
    pub fn use_tab(&mut self, tab: &str) {
        self.page = tab.into();
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn try_command(&mut self, mut command: Value) -> Result<Value, String> {
        self.next_id += 1;
        let id = self.next_id;
        let timeout = command.get("timeout_ms").and_then(Value::as_u64).unwrap_or(PATIENCE.as_millis() as u64);
        command["timeout_ms"] = json!(timeout);
        command["id"] = json!(id);
        writeln!(self.stdin, "{command}").map_err(|e| e.to_string())?;
        loop {
            let limit = Duration::from_millis(timeout) + Duration::from_secs(30);
            let reply = self.replies.recv_timeout(limit).map_err(|_| "the browser's driver does not answer")?;
            if reply["id"].as_u64() != Some(id) {
                continue;
            }
            return match reply.get("error") {
                Some(error) => Err(error.as_str().unwrap_or_default().to_owned()),
                None => Ok(reply["ok"].clone()),
            };
        }
    }

    #[track_caller]
    fn command(&mut self, command: Value) -> Value {
        let words = command.to_string();
        match self.try_command(command) {
            Ok(value) => value,
            Err(error) => {
                let body = self.try_command(json!({"cmd": "body", "page": self.page})).unwrap_or_default();
                panic!("{}: {words}: {error}\nthe page says: {}", self.name, body["text"].as_str().unwrap_or_default())
            }
        }
    }

    #[track_caller]
    fn on(&mut self, cmd: &str, find: &Find, more: Value) -> Value {
        let mut command = find.0.clone();
        command["cmd"] = json!(cmd);
        command["page"] = json!(self.page);
        if let Some(more) = more.as_object() {
            for (key, value) in more {
                command[key] = value.clone();
            }
        }
        self.command(command)
    }

    #[track_caller]
    pub fn open(&mut self, url: &str) {
        self.command(json!({"cmd": "open", "page": self.page, "url": url}));
    }
    #[track_caller]
    pub fn reload(&mut self) {
        self.command(json!({"cmd": "reload", "page": self.page}));
    }
    #[track_caller]
    pub fn click(&mut self, find: &Find) {
        self.on("click", find, json!({}));
    }
    #[track_caller]
    pub fn fill(&mut self, find: &Find, value: &str) {
        self.on("fill", find, json!({ "value": value }));
    }
    #[track_caller]
    pub fn set_checked(&mut self, find: &Find, on: bool) {
        self.on("check", find, json!({ "on": on }));
    }
    #[track_caller]
    pub fn choose(&mut self, find: &Find, value: &str) {
        self.on("choose", find, json!({ "value": value }));
    }
    #[track_caller]
    pub fn press(&mut self, key: &str) {
        self.command(json!({"cmd": "press", "page": self.page, "key": key}));
    }
    #[track_caller]
    pub fn wait_for(&mut self, find: &Find, limit: Duration) {
        self.on("wait", find, json!({ "timeout_ms": limit.as_millis() as u64 }));
    }
    #[track_caller]
    pub fn wait_gone(&mut self, find: &Find, limit: Duration) {
        self.on("wait", find, json!({ "state": "hidden", "timeout_ms": limit.as_millis() as u64 }));
    }
    #[track_caller]
    pub fn text_of(&mut self, find: &Find) -> String {
        self.on("text", find, json!({}))["text"].as_str().unwrap_or_default().to_owned()
    }
    #[track_caller]
    pub fn count(&mut self, find: &Find) -> u64 {
        self.on("count", find, json!({}))["count"].as_u64().unwrap_or(0)
    }
    #[track_caller]
    pub fn body(&mut self) -> String {
        self.command(json!({"cmd": "body", "page": self.page}))["text"].as_str().unwrap_or_default().to_owned()
    }
    #[track_caller]
    pub fn evaluate(&mut self, js: &str) -> Value {
        self.command(json!({"cmd": "evaluate", "page": self.page, "js": js}))["value"].clone()
    }
    /// Waits until an expression is true in the page.
    #[track_caller]
    pub fn until(&mut self, js: &str, limit: Duration) {
        self.command(json!({"cmd": "until", "page": self.page, "js": js, "timeout_ms": limit.as_millis() as u64}));
    }
    /// Runs before every page's own scripts from now on.
    #[track_caller]
    pub fn before_each_page(&mut self, js: &str) {
        self.command(json!({"cmd": "init", "js": js}));
    }
    #[track_caller]
    pub fn set_offline(&mut self, on: bool) {
        self.command(json!({"cmd": "offline", "on": on}));
    }
    #[track_caller]
    pub fn screenshot(&mut self, path: &Path) {
        self.command(json!({"cmd": "screenshot", "page": self.page, "path": path}));
    }
    pub fn close_page(&mut self) {
        self.command(json!({"cmd": "close_page", "page": self.page}));
    }

    /// How many frames (48 kHz) this page has heard since it was loaded.
    #[track_caller]
    pub fn heard_frames(&mut self) -> u64 {
        self.evaluate("window.__ears.frames()").as_u64().unwrap_or(0)
    }

    /// Waits until `seconds` more were heard, and returns them.
    #[track_caller]
    pub fn listen(&mut self, seconds: u64) -> Heard {
        let from = self.heard_frames();
        self.listen_from(from, seconds)
    }

    #[track_caller]
    pub fn listen_from(&mut self, from: u64, seconds: u64) -> Heard {
        let to = from + seconds * u64::from(BROWSER_RATE);
        self.until(&format!("window.__ears.frames() >= {to}"), Duration::from_secs(seconds + 20));
        self.heard(from, to)
    }

    #[track_caller]
    pub fn heard(&mut self, from: u64, to: u64) -> Heard {
        let value = self.evaluate(&format!("window.__ears.take({from}, {to})"));
        let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or_default()).unwrap();
        let samples = bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
        Heard { rate: BROWSER_RATE, samples }
    }

    /// What the page wrote to its console.
    pub fn console(&self) -> String {
        self.notes.lock().unwrap().clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let body =
                self.try_command(json!({"cmd": "body", "page": self.page, "timeout_ms": 2_000})).unwrap_or_default();
            eprintln!("---- {}'s page ----\n{}", self.name, body["text"].as_str().unwrap_or_default());
            eprintln!("---- {}'s console ----\n{}\n----", self.name, self.console());
        }
        let _ = self.try_command(json!({"cmd": "quit", "timeout_ms": 1_000}));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
