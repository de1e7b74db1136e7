//! The voices of a recording, each on the stage only while it sounds: its files and its decoder are opened when its
//! first sample is due and let go after its last, so that what is held at a time does not grow with the number of files.
use crate::files::PacketFile;
use crate::finalise::{FinaliseError, Span};
use crate::store::segment_directory;
use offhook_contract::CodecName;
use offhook_recorder_core::align::{Aligner, Alignment};
use offhook_recorder_core::recover::{RunRow, SegmentRead};
use offhook_recorder_core::render::{Channels, Mixer, Quality, RunRenderer, Voiced, channels_of};
use offhook_recorder_core::timeline::Entry;
use offhook_recorder_core::{RecordingPlan, Voice};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

/// The runs of one track in one codec, through every segment: heard as one stream, so that a decoder does not begin
/// anew where only the recorder did.
struct Strand<'a> {
    codec: CodecName,
    channels: Channels,
    parts: Vec<(u32, &'a RunRow)>,
}

fn strands<'a>(plan: &RecordingPlan, segments: &'a [SegmentRead]) -> Vec<Strand<'a>> {
    let mut open: BTreeMap<u16, Strand<'a>> = BTreeMap::new();
    let mut done = Vec::new();
    for segment in segments {
        for run in segment.runs.iter().filter(|run| !run.entries.is_empty()) {
            let part = (segment.opened.segment, run);
            match open.get_mut(&run.track) {
                Some(strand) if strand.codec == run.codec => strand.parts.push(part),
                _ => {
                    let voice = segment.tracks.get(&run.track).unwrap_or(&Voice::Announcer);
                    let channels = channels_of(voice, &plan.caller_legs);
                    let strand = Strand { codec: run.codec, channels, parts: vec![part] };
                    done.extend(open.insert(run.track, strand));
                }
            }
        }
    }
    done.extend(open.into_values());
    done
}

impl Strand<'_> {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.parts.iter().flat_map(|(_, run)| run.entries.iter())
    }

    fn alignment(&self) -> Alignment {
        let mut aligner = Aligner::new(self.codec.clock_rate_hz());
        self.entries().for_each(|entry| aligner.push(entry.media_ns, entry.timestamp));
        aligner.finish()
    }

    /// The first packet's place, in output samples.
    fn first(&self, span: Span) -> i64 {
        let first_ns = self.entries().next().map_or(0, |entry| self.alignment().place(entry.timestamp));
        let since = i128::from(first_ns) - i128::from(span.origin_ns);
        i64::try_from(since * i128::from(span.rate) / 1_000_000_000).unwrap_or(0)
    }
}

/// A strand that has not begun.
struct Cue<'a> {
    first: i64,
    strand: Strand<'a>,
}

pub struct Stage<'a> {
    directory: &'a Path,
    span: Span,
    /// By their first sample.
    cues: VecDeque<Cue<'a>>,
    playing: Vec<Playing<'a>>,
    /// Of the strands that have ended.
    ended: Quality,
}

impl<'a> Stage<'a> {
    pub fn new(directory: &'a Path, plan: &RecordingPlan, segments: &'a [SegmentRead], span: Span) -> Self {
        let cue = |strand: Strand<'a>| Cue { first: strand.first(span), strand };
        let mut cues: Vec<_> = strands(plan, segments).into_iter().map(cue).collect();
        cues.sort_by_key(|cue| cue.first);
        Self { directory, span, cues: cues.into(), playing: Vec::new(), ended: Quality::default() }
    }

    /// Mixes everything that begins before the output's sample `end`.
    pub fn play_until(&mut self, end: i64, mixer: &mut Mixer) -> Result<(), FinaliseError> {
        for voice in &mut self.playing {
            voice.play_until(end, self.directory, mixer)?;
        }
        for voice in self.playing.extract_if(.., |voice| voice.ended) {
            self.ended = sum(self.ended, voice.renderer.quality);
        }
        while let Some(Cue { first, strand }) = self.cues.pop_front_if(|cue| cue.first < end) {
            let mut voice = Playing::begin(strand, first, self.span)?;
            voice.play_until(end, self.directory, mixer)?;
            if voice.ended {
                self.ended = sum(self.ended, voice.renderer.quality);
            } else {
                self.playing.push(voice);
            }
        }
        Ok(())
    }

    pub fn quality(&self) -> Quality {
        self.playing.iter().fold(self.ended, |all, voice| sum(all, voice.renderer.quality))
    }
}

fn sum(a: Quality, b: Quality) -> Quality {
    Quality { concealed_ms: a.concealed_ms + b.concealed_ms, undecodable: a.undecodable + b.undecodable }
}

/// A strand on its way into the mixer.
struct Playing<'a> {
    /// What is still to be opened.
    parts: std::vec::IntoIter<(u32, &'a RunRow)>,
    file: Option<PacketFile>,
    entries: std::slice::Iter<'a, Entry>,
    codec: CodecName,
    renderer: RunRenderer,
    channels: Channels,
    first: i64,
    ended: bool,
}

impl<'a> Playing<'a> {
    fn begin(strand: Strand<'a>, first: i64, span: Span) -> Result<Self, FinaliseError> {
        let renderer = RunRenderer::new(strand.codec, strand.alignment(), span.origin_ns, span.rate)?;
        let Strand { codec, channels, parts } = strand;
        let entries = [].iter();
        Ok(Self { parts: parts.into_iter(), file: None, entries, codec, renderer, channels, first, ended: false })
    }

    fn play_until(&mut self, end: i64, directory: &Path, mixer: &mut Mixer) -> Result<(), FinaliseError> {
        while !self.ended && self.renderer.behind().unwrap_or(self.first) < end {
            let packet = self.next_packet(directory)?;
            let mut voiced = Voiced { mixer, channels: self.channels };
            match packet {
                Some((entry, payload)) => self.renderer.push(&entry, &payload, &mut voiced),
                None => {
                    self.renderer.finish(&mut voiced);
                    self.ended = true;
                }
            }
        }
        Ok(())
    }

    fn next_packet(&mut self, directory: &Path) -> Result<Option<(Entry, Vec<u8>)>, FinaliseError> {
        loop {
            if let Some(file) = &mut self.file
                && let Some(entry) = self.entries.next()
            {
                let filled = (0..entry.fill).all(|_| file.next().is_some());
                // A damaged file keeps its place in time: what is missing is an empty packet.
                let payload = if filled { file.next() } else { None };
                return Ok(Some((*entry, payload.unwrap_or_default())));
            }
            let Some((segment, run)) = self.parts.next() else { return Ok(None) };
            let path = directory.join(segment_directory(segment)).join(&run.file);
            let opened = PacketFile::open(&path, self.codec);
            self.file = Some(opened.map_err(|source| FinaliseError::File { path, source })?);
            self.entries = run.entries.iter();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_contract::sfu::TapOffer;
    use offhook_contract::{BootId, CallId, RecordingId, Secret, TenantId, UnixMs};
    use offhook_recorder_core::g711_file::{Frame, MAGIC};
    use offhook_recorder_core::timeline::{Opened, run_file_name};

    const FRAME_NS: u64 = 20_000_000;

    fn plan() -> RecordingPlan {
        let recording = RecordingId::parse("rec").unwrap();
        let (addresses, fingerprint, token) = (Vec::new(), String::new(), Secret::new("t"));
        RecordingPlan {
            recording: recording.clone(),
            tenant: TenantId::parse("tenant").unwrap(),
            call: CallId::parse("call").unwrap(),
            epoch: None,
            tap: TapOffer { recording, addresses, fingerprint, token },
            caller_legs: Vec::new(),
            answered_ms: UnixMs(0),
        }
    }

    /// A segment of so many runs of one packet, each in another codec than the one before it.
    fn alternating(directory: &Path, count: u32) -> SegmentRead {
        let opened = Opened {
            version: Opened::VERSION,
            recording: plan().recording,
            call: plan().call,
            tenant: plan().tenant,
            segment: 1,
            clock: BootId::parse("boot").unwrap(),
            media_ns: 0,
            wall: UnixMs(0),
            resume_after: 0,
            gap_ns: 0,
        };
        std::fs::create_dir(directory.join(segment_directory(1))).unwrap();
        let run = |n: u32| {
            let codec = if n.is_multiple_of(2) { CodecName::Pcmu } else { CodecName::Pcma };
            let (file, timestamp) = (run_file_name(1, n, codec), n * 160);
            let (media_ns, sequence) = (u64::from(n) * FRAME_NS, u16::try_from(n).unwrap());
            let mut bytes = MAGIC.to_vec();
            Frame { media_ns, timestamp, sequence, codec, payload: &[0x55; 160] }.encode(&mut bytes);
            std::fs::write(directory.join(segment_directory(1)).join(&file), bytes).unwrap();
            let entries = vec![Entry { media_ns, timestamp, sequence, fill: 0 }];
            RunRow { run: n, track: 1, codec, file, entries }
        };
        SegmentRead {
            opened,
            tracks: BTreeMap::new(),
            runs: (0..count).map(run).collect(),
            announced: Vec::new(),
            clock_pairs: Vec::new(),
            gaps: Vec::new(),
            closed: None,
            through: 0,
            also: std::collections::BTreeSet::new(),
            facts_told: 0,
            sidecar_bytes: 0,
        }
    }

    #[test]
    fn only_what_sounds_is_held_however_many_files_there_are() {
        let directory = tempfile::tempdir().unwrap();
        let segments = [alternating(directory.path(), 1_500)];
        let span = Span { origin_ns: 0, end_ns: 1_500 * FRAME_NS, rate: 8_000 };
        let mut stage = Stage::new(directory.path(), &plan(), &segments, span);
        assert_eq!((stage.cues.len(), stage.playing.len()), (1_500, 0));
        let (mut mixer, mut heard) = (Mixer::default(), Vec::new());
        for second in 1..=30 {
            stage.play_until(second * 8_000, &mut mixer).unwrap();
            assert!(stage.playing.len() <= 2, "{} at {second} s", stage.playing.len());
            mixer.take(8_000, &mut heard);
        }
        assert!(heard.iter().all(|sample| *sample != 0), "every packet is heard");
        assert_eq!(mixer.late, 0);
    }
}
