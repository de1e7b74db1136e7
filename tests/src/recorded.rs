//! A finished recording as its owner fetches it: the rows, the FLAC, the manifest.
use crate::api::Api;
use crate::sound::{self, Heard};
use crate::wait;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug)]
pub struct Recorded {
    /// The call's row in the history.
    pub call: Value,
    /// The recording's row.
    pub row: Value,
    pub manifest: Value,
    flac: PathBuf,
    rate: u32,
    channels: Vec<Vec<i16>>,
}

impl Recorded {
    /// Waits until the newest call's recording is finished, and fetches all of it.
    #[track_caller]
    pub fn fetch(api: &Api, folder: &Path) -> Self {
        let (call, row) = wait::until("the recording to be finished", wait::secs(40), || {
            let calls = api.calls();
            let call = calls.first().ok_or("there is no call")?;
            let row = &call["recordings"][0];
            let files = row["files"].as_array().map_or(0, Vec::len);
            if row["state"] == "stopped" && files > 0 { Ok((call.clone(), row.clone())) } else { Err(row.to_string()) }
        });
        let id = row["id"].as_str().unwrap();
        let audio = api.send("GET", &format!("/v1/recordings/{id}/audio"), None, &[]);
        assert_eq!(audio.status, 200, "{}", String::from_utf8_lossy(&audio.bytes));
        let part = api.send("GET", &format!("/v1/recordings/{id}/audio"), None, &[("range", "bytes=0-3")]);
        assert_eq!((part.status, part.bytes.as_slice()), (206, b"fLaC".as_slice()), "a range of the recording");
        let manifest = api.send("GET", &format!("/v1/recordings/{id}/manifest"), None, &[]);
        assert_eq!(manifest.status, 200, "{}", String::from_utf8_lossy(&manifest.bytes));
        let flac = folder.join(format!("{id}.flac"));
        std::fs::write(&flac, &audio.bytes).unwrap();
        let wav = flac.with_extension("wav");
        let done = Command::new("flac").args(["-d", "-s", "-f", "-o"]).arg(&wav).arg(&flac).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let (rate, channels) = sound::read_wav(&wav);
        assert_eq!(channels.len(), 2, "the recording has two channels");
        Self { call, row, manifest: manifest.json(), flac, rate, channels }
    }

    pub fn left(&self) -> Heard {
        Heard { rate: self.rate, samples: self.channels[0].clone() }
    }

    pub fn right(&self) -> Heard {
        Heard { rate: self.rate, samples: self.channels[1].clone() }
    }

    /// The checksum and the length of the FLAC stand in the history and in the manifest.
    #[track_caller]
    pub fn assert_files_agree(&self) {
        let sum = Command::new("sha256sum").arg(&self.flac).output().unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        let sum = sum.split_whitespace().next().unwrap();
        let files = self.row["files"].as_array().unwrap();
        let flac = files.iter().find(|f| f["name"].as_str().is_some_and(|n| n.ends_with(".flac")));
        let flac = flac.unwrap_or_else(|| panic!("no FLAC among {files:?}"));
        assert_eq!(flac["sha256"], sum);
        assert!(self.manifest.to_string().contains(sum), "the manifest has another checksum: {}", self.manifest);
        let seconds = self.left().seconds();
        let told = self.row["duration_ms"].as_f64().unwrap() / 1000.0;
        assert!((seconds - told).abs() < 0.1, "the FLAC lasts {seconds:.2} s, the history says {told:.2} s");
    }

    /// The notice and so many beeps are consent events with their times.
    #[track_caller]
    pub fn assert_consent(&self, beeps: usize) {
        let events = self.row["consent"].as_array().unwrap();
        let count =
            |kind: &str| events.iter().filter(|e| e["kind"] == kind && e["played_ms"].as_u64() > Some(0)).count();
        assert_eq!(count("notice"), 1, "{events:?}");
        assert!(count("beep") >= beeps, "{events:?}");
    }
}
