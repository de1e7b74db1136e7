//! What a recording tells others: consent lines as it goes, facts once what they speak of is on disk.
use super::Output;
use crate::consent::{About, ConsentChain, ConsentEvent};
use crate::recover::Announced;
use offhook_contract::UnixMs;
use offhook_contract::fact::Fact;
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Telling {
    about: About,
    chain: ConsentChain,
    lines: Vec<u8>,
    announced: Vec<(u32, Announced)>,
    /// The last segment of which audio was told.
    segment_told: u32,
    barrier: u64,
    waiting: VecDeque<(u64, After)>,
}

/// What follows once a flush is on disk.
#[derive(Debug)]
struct After {
    segment_started: Option<u32>,
    announced: Vec<(u32, Announced)>,
    finalise: bool,
}

impl Telling {
    pub(super) fn new(about: About, chain: ConsentChain) -> Self {
        let (lines, announced, waiting) = (Vec::new(), Vec::new(), VecDeque::new());
        Self { about, chain, lines, announced, segment_told: 0, barrier: 0, waiting }
    }

    pub(super) fn line(&mut self, segment: u32, at: UnixMs, event: ConsentEvent) {
        self.chain.append(&self.about, segment, at, event, &mut self.lines);
    }

    pub(super) fn announced(&mut self, segment: u32, announced: Announced, ended_ms: UnixMs) {
        self.line(segment, announced.played, ConsentEvent::Played { announcement: announced.kind, ended_ms });
        self.announced.push((segment, announced));
    }

    /// The consent lines since the last flush.
    pub(super) fn lines(&mut self) -> Option<Vec<u8>> {
        (!self.lines.is_empty()).then(|| std::mem::take(&mut self.lines))
    }

    /// The barrier of a flush with so many packets of `segment`.
    pub(super) fn barrier(&mut self, segment: u32, packets: u64, finalise: bool) -> u64 {
        let first_audio = packets > 0 && self.segment_told < segment;
        if first_audio {
            self.segment_told = segment;
        }
        let announced = std::mem::take(&mut self.announced);
        let after = After { segment_started: first_audio.then_some(segment), announced, finalise };
        self.barrier += 1;
        self.waiting.push_back((self.barrier, after));
        self.barrier
    }

    /// Gives the facts of every flush up to `barrier`; whether the last of them was to be followed by the final files.
    pub(super) fn written(&mut self, barrier: u64, out: &mut VecDeque<Output>) -> bool {
        let mut finalise = false;
        while let Some((_, after)) = self.waiting.pop_front_if(|(number, _)| *number <= barrier) {
            let started = after.segment_started.map(|segment| self.segment(segment));
            out.extend(started);
            out.extend(after.announced.iter().map(|(segment, announced)| self.consent(*segment, announced)));
            finalise |= after.finalise;
        }
        finalise
    }

    /// What was not written is not told.
    pub(super) fn give_up(&mut self) {
        self.waiting.clear();
        self.announced.clear();
    }

    pub(super) fn segment(&mut self, segment: u32) -> Output {
        self.segment_told = self.segment_told.max(segment);
        let fact = Fact::SegmentStarted { recording: self.about.recording.clone(), segment };
        Output::Fact { fact, number: None }
    }

    /// Its time was settled when it came, so that told twice it is the same event.
    pub(super) fn consent(&self, segment: u32, announced: &Announced) -> Output {
        let (recording, kind) = (self.about.recording.clone(), announced.kind);
        let fact = Fact::ConsentPlayed { recording, segment, kind, played_ms: announced.played };
        Output::Fact { fact, number: Some(announced.number) }
    }
}
