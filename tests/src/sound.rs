//! Tones to send, and judgement of what was heard (a tone counts when at least 99 % of the 20 ms frames have it).
use crate::witness;
use offhook_media::{detect, g711};
use std::f64::consts::TAU;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const BROWSER_RATE: u32 = 48_000;
pub const TELEPHONE_RATE: u32 = 8_000;

/// A steady tone as a WAV file that loops without a click: whole periods in whole seconds.
pub fn tone_file(folder: &Path, hz: u32, rate: u32, seconds: u32) -> PathBuf {
    let path = folder.join(format!("tone-{hz}-{rate}-{seconds}.wav"));
    if path.exists() {
        return path;
    }
    let sample = |n: u32| {
        let phase = TAU * f64::from(hz) * f64::from(n) / f64::from(rate);
        (phase.sin() * 0.35 * 32_767.0) as i16
    };
    write_wav(&path, rate, (0..rate * seconds).map(sample))
}

/// The same for SIPp, which sends a file as it stands: G.711 µ-law without a header.
pub fn ulaw_file(folder: &Path, hz: u32, seconds: u32) -> PathBuf {
    let path = folder.join(format!("tone-{hz}-{seconds}.ulaw"));
    let count = TELEPHONE_RATE * seconds;
    let sample = |n: u32| (TAU * f64::from(hz) * f64::from(n) / f64::from(TELEPHONE_RATE)).sin() * 0.35 * 32_767.0;
    let bytes: Vec<u8> = (0..count).map(|n| g711::linear_to_pcmu(sample(n) as i16)).collect();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// A human voice: the shipped notice, once every four seconds, at the browser's rate.
pub fn spoken_file(folder: &Path) -> PathBuf {
    let (rate, channels) = read_wav(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/prompts/en/recorded.wav"));
    let at = |n: u32| u64::from(n) * u64::from(rate) / u64::from(BROWSER_RATE);
    let sample = |n: u32| usize::try_from(at(n)).ok().and_then(|n| channels[0].get(n)).copied().unwrap_or(0);
    write_wav(&folder.join("voice.wav"), BROWSER_RATE, (0..4 * BROWSER_RATE).map(sample))
}

pub fn silent_file(folder: &Path) -> PathBuf {
    write_wav(&folder.join("silence.wav"), BROWSER_RATE, (0..BROWSER_RATE).map(|_| 0))
}

fn write_wav(path: &Path, rate: u32, samples: impl Iterator<Item = i16>) -> PathBuf {
    let spec =
        hound::WavSpec { channels: 1, sample_rate: rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut wav = hound::WavWriter::create(path, spec).unwrap();
    samples.for_each(|sample| wav.write_sample(sample).unwrap());
    wav.finalize().unwrap();
    path.to_path_buf()
}

/// The share of 20 ms frames (at 48 kHz) with something to hear, above −45 dBFS.
pub fn loud_share(samples: &[i16]) -> f64 {
    let frames = samples.chunks_exact(BROWSER_RATE as usize / 50);
    let loud = |frame: &&[i16]| {
        frame.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / frame.len() as f64 > 184.0f64.powi(2)
    };
    frames.clone().filter(loud).count() as f64 / frames.len().max(1) as f64
}

/// A WAV file's channels.
pub fn read_wav(path: &Path) -> (u32, Vec<Vec<i16>>) {
    let mut wav = hound::WavReader::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let spec = wav.spec();
    let mut channels = vec![Vec::new(); usize::from(spec.channels)];
    for (at, sample) in wav.samples::<i16>().map_while(Result::ok).enumerate() {
        channels[at % usize::from(spec.channels)].push(sample);
    }
    (spec.sample_rate, channels)
}

/// What somebody heard, at a rate.
#[derive(Debug, Clone)]
pub struct Heard {
    pub rate: u32,
    pub samples: Vec<i16>,
}

impl Heard {
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate)
    }

    pub fn presence(&self, hz: u32) -> f32 {
        detect::presence(&self.samples, self.rate, hz as f32)
    }

    pub fn level_dbfs(&self, hz: u32) -> f32 {
        detect::level_dbfs_of(&self.samples, self.rate, hz as f32)
    }

    /// Between two moments, in seconds.
    pub fn between(&self, from: f64, to: f64) -> Self {
        let at = |s: f64| ((s * f64::from(self.rate)) as usize).min(self.samples.len());
        Self { rate: self.rate, samples: self.samples[at(from)..at(to).max(at(from))].to_vec() }
    }

    /// Without its last seconds: somebody was hanging up.
    pub fn but_last(&self, seconds: f64) -> Self {
        self.between(0.0, (self.seconds() - seconds).max(0.0))
    }

    /// From the first frame with the tone on; panics if it begins later than `within_s`.
    pub fn from_onset(&self, hz: u32, within_s: f64) -> Self {
        let frame = self.rate as usize / 50;
        let onset = self.samples.chunks_exact(frame).position(|f| detect::is_present(f, self.rate, hz as f32));
        let onset = onset.unwrap_or_else(|| panic!("{hz} Hz is not there at all in {:.1} s", self.seconds()));
        let at_s = onset as f64 / 50.0;
        assert!(at_s <= within_s, "{hz} Hz begins after {at_s:.2} s, later than {within_s} s");
        Self { rate: self.rate, samples: self.samples[onset * frame..].to_vec() }
    }

    /// The rule of DESIGN §8: the tone in 99 % of the frames that the machine ran for, and every `foreign` one at most −40 dB of it.
    #[track_caller]
    pub fn assert_only(&self, who: &str, hz: u32, foreign: &[u32]) {
        self.assert_tone(who, hz);
        self.assert_foreign(who, hz, foreign);
    }

    /// The same in a recorded call: a voice speaks the notice first, and a voice has every tone in it.
    #[track_caller]
    pub fn assert_only_after_notice(&self, who: &str, hz: u32, foreign: &[u32]) {
        const NOTICE_S: f64 = 6.0;
        self.assert_tone(who, hz);
        self.between(NOTICE_S, self.seconds()).assert_foreign(who, hz, foreign);
    }

    #[track_caller]
    fn assert_tone(&self, who: &str, hz: u32) {
        assert!(self.seconds() >= 1.0, "{who} heard only {:.2} s", self.seconds());
        let presence = f64::from(self.presence(hz));
        let absent_s = (1.0 - presence) * self.seconds();
        let excused_s = self.excused_s();
        assert!(
            absent_s - excused_s <= 0.01 * self.seconds(),
            "{who} heard {hz} Hz in only {:.1} % of {:.1} s ({excused_s:.2} s are excused); missing at {:?}",
            presence * 100.0,
            self.seconds(),
            self.missing(hz)
        );
        if presence < 0.99 {
            witness::say(&format!("{who} missed {absent_s:.2} s, while the machine stood still for {excused_s:.2} s"));
        }
    }

    /// Nobody hears what a machine that stands still does not play; a tenth of all is too much of it.
    fn excused_s(&self) -> f64 {
        const HANGING_UP: Duration = Duration::from_secs(20);
        let stood_still = witness::stood_still(Duration::from_secs_f64(self.seconds()) + HANGING_UP);
        stood_still.as_secs_f64().min(0.1 * self.seconds())
    }

    #[track_caller]
    fn assert_foreign(&self, who: &str, hz: u32, foreign: &[u32]) {
        let own = self.level_dbfs(hz);
        for other in foreign {
            let level = self.level_dbfs(*other);
            assert!(level <= own - 40.0, "{who} heard {other} Hz at {level:.1} dBFS beside {hz} Hz at {own:.1} dBFS");
        }
    }

    /// The moments (in seconds) of frames without the tone, for a failure's words.
    pub fn missing(&self, hz: u32) -> Vec<f64> {
        let frame = self.rate as usize / 50;
        let frames = self.samples.chunks_exact(frame).enumerate();
        let absent = frames.filter(|(_, f)| !detect::is_present(f, self.rate, hz as f32));
        absent.map(|(n, _)| n as f64 / 50.0).take(40).collect()
    }

    /// Beginnings of bursts of a tone, in seconds.
    pub fn bursts(&self, hz: u32) -> Vec<f64> {
        detect::find_bursts(&self.samples, self.rate, hz as f32)
            .iter()
            .map(|b| f64::from(b.start_ms) / 1000.0)
            .collect()
    }
}
