//! A finished FLAC as samples, by the reference decoder.
use std::path::Path;
use std::process::Command;

pub struct Stereo {
    pub rate: u32,
    pub left: Vec<i16>,
    pub right: Vec<i16>,
}

pub fn read_flac(path: &Path) -> Stereo {
    assert!(Command::new("flac").args(["-t", "-s"]).arg(path).status().unwrap().success(), "flac -t");
    let rate = Command::new("metaflac").arg("--show-sample-rate").arg(path).output().unwrap();
    let rate = String::from_utf8(rate.stdout).unwrap().trim().parse().unwrap();
    let decode = ["-d", "-s", "-c", "--force-raw-format", "--endian=little", "--sign=signed"];
    let decoded = Command::new("flac").args(decode).arg(path).output().unwrap();
    assert!(decoded.status.success());
    let samples: Vec<i16> = decoded.stdout.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
    let side = |first: usize| samples.iter().skip(first).step_by(2).copied().collect();
    Stereo { rate, left: side(0), right: side(1) }
}

/// The share of 20 ms frames with the tone, and the tone's level, between two moments in milliseconds.
pub fn tone_in(samples: &[i16], rate: u32, hz: f32, from_ms: usize, until_ms: usize) -> (f32, f32) {
    let per_ms = rate as usize / 1_000;
    let part = &samples[from_ms * per_ms..(until_ms * per_ms).min(samples.len())];
    (offhook_media::detect::presence(part, rate, hz), offhook_media::detect::level_dbfs_of(part, rate, hz))
}
