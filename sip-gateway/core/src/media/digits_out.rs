//! Key presses to the telephone: as events (RFC 4733 §2.5.1), or as tones where the carrier takes no events.

use std::collections::VecDeque;

use offhook_media::{dtmf, tone::Sine};
use offhook_wire_rtp::TelephoneEvent;

use super::{FRAME, RATE};

/// Digits waiting at most; a request brings up to 32.
pub const MAX_QUEUED: usize = 64;
/// Silence between two digits, in frames: 60 ms, above the 40 ms that Q.24 asks receivers to take.
const PAUSE_FRAMES: u32 = 3;
/// The end of an event is sent three times (RFC 4733 §2.5.1.4).
const END_PACKETS: u32 = 3;
/// Level of an event in −dBm0, as telephones write it.
const EVENT_VOLUME: u8 = 10;
/// Level of each tone of an in-band digit.
const TONE_DBFS: f32 = -12.0;
const SHORTEST_MS: u16 = 40;
const LONGEST_MS: u16 = 5_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigitsError {
    #[error("{0:?} is no key; keys are 0-9, *, #, A-D")]
    NotAKey(char),
    #[error("{MAX_QUEUED} digits are waiting already")]
    Full,
}

/// What the next 20 ms of the stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    Audio,
    /// A key's tones, written over the audio.
    Tone,
    /// An event packet; `start` is its offset in ticks back from this frame's own timestamp.
    Event {
        payload: [u8; TelephoneEvent::LEN],
        start: u32,
        first: bool,
    },
}

#[derive(Debug, Clone)]
enum State {
    Idle,
    Pressing { code: u8, frames: u32, done: u32 },
    Ending { code: u8, ticks: u16, since: u32, left: u32 },
    Sounding { tones: [Sine; 2], left: u32 },
    Pausing { left: u32 },
}

#[derive(Debug)]
pub(super) struct DigitSender {
    queue: VecDeque<(char, u16)>,
    state: State,
}

impl Default for DigitSender {
    fn default() -> Self {
        Self { queue: VecDeque::with_capacity(MAX_QUEUED), state: State::Idle }
    }
}

impl DigitSender {
    /// Queues all digits or none.
    pub(super) fn queue(&mut self, digits: &str, duration_ms: u16) -> Result<(), DigitsError> {
        if let Some(bad) = digits.chars().find(|d| TelephoneEvent::code_of(*d).is_none()) {
            return Err(DigitsError::NotAKey(bad));
        }
        if self.queue.len() + digits.len() > MAX_QUEUED {
            return Err(DigitsError::Full);
        }
        let duration_ms = duration_ms.clamp(SHORTEST_MS, LONGEST_MS);
        self.queue.extend(digits.chars().map(|d| (d, duration_ms)));
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.state = State::Idle;
    }

    /// Decides about the next frame. Without events the tones are written over `audio`.
    pub(super) fn next(&mut self, events: bool, audio: &mut [i16; FRAME]) -> Frame {
        if matches!(self.state, State::Idle) {
            self.begin(events);
        }
        let ticks = FRAME as u32;
        let (frame, next) = match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => return Frame::Audio,
            State::Pressing { code, frames, done } => {
                let duration = ((done + 1) * ticks).min(u32::from(u16::MAX)) as u16;
                let frame = event(code, false, duration, done * ticks, done == 0);
                let next = if done + 1 < frames {
                    State::Pressing { code, frames, done: done + 1 }
                } else {
                    State::Ending { code, ticks: duration, since: frames, left: END_PACKETS }
                };
                (frame, next)
            }
            State::Ending { code, ticks: duration, since, left } => {
                let frame = event(code, true, duration, since * ticks, false);
                let next = if left > 1 {
                    State::Ending { code, ticks: duration, since: since + 1, left: left - 1 }
                } else {
                    State::Pausing { left: PAUSE_FRAMES }
                };
                (frame, next)
            }
            State::Sounding { mut tones, left } => {
                let [low, high] = &mut tones;
                for sample in audio.iter_mut() {
                    *sample = (low.next_sample() + high.next_sample()) as i16;
                }
                let next = if left > 1 {
                    State::Sounding { tones, left: left - 1 }
                } else {
                    State::Pausing { left: PAUSE_FRAMES }
                };
                (Frame::Tone, next)
            }
            State::Pausing { left } => {
                let next = if left > 1 { State::Pausing { left: left - 1 } } else { State::Idle };
                (Frame::Audio, next)
            }
        };
        self.state = next;
        frame
    }

    fn begin(&mut self, events: bool) {
        let Some((key, duration_ms)) = self.queue.pop_front() else { return };
        let frames = u32::from(duration_ms).div_ceil(20);
        self.state = match (TelephoneEvent::code_of(key), dtmf::frequencies(key)) {
            (Some(code), _) if events => State::Pressing { code, frames, done: 0 },
            (_, Some((low, high))) => {
                State::Sounding { tones: [low, high].map(|hz| Sine::new(hz, TONE_DBFS, RATE)), left: frames }
            }
            _ => State::Idle,
        };
    }
}

fn event(event: u8, end: bool, duration: u16, start: u32, first: bool) -> Frame {
    let payload = TelephoneEvent { event, end, volume: EVENT_VOLUME, duration }.to_bytes();
    Frame::Event { payload, start, first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_press_grows_then_ends_three_times_with_one_timestamp() {
        let mut sender = DigitSender::default();
        sender.queue("5", 100).unwrap();
        let mut audio = [0; FRAME];
        let mut seen = Vec::new();
        for n in 0..12u32 {
            if let Frame::Event { payload, start, first } = sender.next(true, &mut audio) {
                let e = TelephoneEvent::parse(&payload).unwrap();
                seen.push((e.key().unwrap(), e.duration, e.end, n * 160 - start, first));
            }
        }
        let expected = [
            ('5', 160, false, 0, true),
            ('5', 320, false, 0, false),
            ('5', 480, false, 0, false),
            ('5', 640, false, 0, false),
            ('5', 800, false, 0, false),
            ('5', 800, true, 0, false),
            ('5', 800, true, 0, false),
            ('5', 800, true, 0, false),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn digits_are_separated_by_audio() {
        let mut sender = DigitSender::default();
        sender.queue("12", 60).unwrap();
        let mut audio = [0; FRAME];
        let word: String = (0..20)
            .map(|_| match sender.next(true, &mut audio) {
                Frame::Audio | Frame::Tone => '.',
                Frame::Event { payload, .. } => TelephoneEvent::parse(&payload).unwrap().key().unwrap(),
            })
            .collect();
        assert_eq!(word, "111111...222222.....");
    }

    #[test]
    fn without_events_the_digits_sound() {
        let mut sender = DigitSender::default();
        sender.queue("19#", 80).unwrap();
        let mut heard = Vec::new();
        for _ in 0..40 {
            let mut audio = [0; FRAME];
            let frame = sender.next(false, &mut audio);
            assert_eq!(frame == Frame::Tone, audio != [0; FRAME]);
            heard.extend(audio);
        }
        assert_eq!(dtmf::digits_in(&heard, RATE), "19#");
    }

    #[test]
    fn what_is_no_key_or_too_much_is_refused_as_a_whole() {
        let mut sender = DigitSender::default();
        assert_eq!(sender.queue("12x", 100), Err(DigitsError::NotAKey('x')));
        assert_eq!(sender.queue(&"1".repeat(65), 100), Err(DigitsError::Full));
        assert_eq!(sender.next(true, &mut [0; FRAME]), Frame::Audio);
    }
}
