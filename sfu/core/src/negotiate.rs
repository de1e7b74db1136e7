//! From a browser's offer to its answer and the plan for its transport. Runs on the signalling side: nothing here
//! touches a shard.
use crate::command::{LinePlan as Line, PayloadTypes, PeerPlan};
use offhook_contract::CodecName;
use offhook_wire_sdp::SdpError;
use offhook_wire_sdp::webrtc::{
    AnswerError, AnswerPlan, AudioCodec, Fingerprint, IceCredentials, LinePlan, MediaKind, Offer, OfferMedia,
    URI_AUDIO_LEVEL, write_answer,
};
use std::net::SocketAddr;

/// Slots beyond these stay silent.
const SLOTS_MAX: usize = 8;
const CNAME: &str = "offhook";

/// What the daemon draws anew for each join.
#[derive(Debug, Clone)]
pub struct JoinSecrets {
    pub ice: IceCredentials,
    pub session_id: u64,
    /// Random words; 32 are enough for any join.
    pub words: Vec<u32>,
}

#[derive(Debug, Clone)]
pub struct Joined {
    pub answer_sdp: String,
    pub slot_mids: Vec<String>,
    pub announcer_mid: Option<String>,
    pub plan: PeerPlan,
}

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("the offer cannot be read: {0}")]
    Offer(#[from] SdpError),
    #[error("the offer cannot be answered: {0}")]
    Answer(#[from] AnswerError),
    #[error("the offer has no audio line that we could use")]
    NoAudio,
    #[error("the offer knows neither Opus nor PCMU nor PCMA on its audio lines")]
    NoCodec,
    #[error("too few random words for {0} lines")]
    Words(usize),
}

/// What becomes of one line of the offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Microphone,
    Slot,
    Announcer,
    Nothing,
}

/// Answers `offer_sdp`: the first line that sends is the microphone, the lines that only receive are slots, and the
/// last of them, if there are two or more, is the Announcer's.
pub fn negotiate(
    offer_sdp: &str,
    secrets: JoinSecrets,
    fingerprint: Fingerprint,
    candidates: Vec<SocketAddr>,
) -> Result<Joined, JoinError> {
    let offer = Offer::parse(offer_sdp)?;
    let uses = uses(&offer);
    let of =
        |wanted: Use| offer.media.iter().zip(&uses).filter(move |(_, used)| **used == wanted).map(|(line, _)| line);
    let receiving: Vec<&OfferMedia> = of(Use::Slot).chain(of(Use::Announcer)).collect();
    let microphone = of(Use::Microphone).next();
    if receiving.is_empty() && microphone.is_none() {
        return Err(JoinError::NoAudio);
    }
    let receives = common_types(&receiving);
    let sends = microphone.map(|line| common_types(&[line]));
    let deaf = |types: &PayloadTypes| *types == PayloadTypes::default();
    if (!receiving.is_empty() && deaf(&receives)) || sends.as_ref().is_some_and(deaf) {
        return Err(JoinError::NoCodec);
    }
    let mut words = Words(secrets.words.into_iter());
    let too_few = || JoinError::Words(offer.media.len());
    let slots: Vec<Line> = of(Use::Slot).map(|_| words.line()).collect::<Option<_>>().ok_or_else(too_few)?;
    let announcer = of(Use::Announcer).next().map(|_| words.line().ok_or_else(too_few)).transpose()?;
    let (report_ssrc, source_id) = words.word().zip(words.word()).ok_or_else(too_few)?;
    let plan = PeerPlan {
        ufrag: secrets.ice.ufrag.clone(),
        pwd: secrets.ice.pwd.clone(),
        remote_fingerprint: offer.fingerprint.0,
        sends,
        sent_level_id: microphone.and_then(level_id),
        receives,
        received_level_id: receiving.first().and_then(|line| level_id(line)),
        slots,
        announcer,
        report_ssrc,
        source_id,
    };
    let lines = lines(&offer, &uses, &plan);
    let ice = secrets.ice;
    let session_id = secrets.session_id >> 1;
    let answer = AnswerPlan { session_id, session_version: 1, ice, fingerprint, candidates, lines };
    Ok(Joined {
        answer_sdp: write_answer(&offer, &answer)?,
        slot_mids: of(Use::Slot).map(|line| line.mid.clone()).collect(),
        announcer_mid: of(Use::Announcer).next().map(|line| line.mid.clone()),
        plan,
    })
}

fn uses(offer: &Offer) -> Vec<Use> {
    let mut microphone = false;
    let mut receiving = 0;
    let mut uses: Vec<Use> = offer
        .media
        .iter()
        .map(|line| {
            let usable = line.kind == MediaKind::Audio && line.rtcp_mux && offer.is_bundled(&line.mid);
            if !usable {
                return Use::Nothing;
            }
            if line.direction.sends() {
                return if std::mem::replace(&mut microphone, true) { Use::Nothing } else { Use::Microphone };
            }
            receiving += usize::from(line.direction.receives());
            if line.direction.receives() { Use::Slot } else { Use::Nothing }
        })
        .collect();
    if receiving >= 2
        && let Some(last) = uses.iter_mut().rev().find(|used| **used == Use::Slot)
    {
        *last = Use::Announcer;
    }
    uses.iter_mut().filter(|used| **used == Use::Slot).skip(SLOTS_MAX).for_each(|used| *used = Use::Nothing);
    uses
}

fn level_id(line: &OfferMedia) -> Option<u8> {
    // One-byte header extensions carry ids 1 to 14 (RFC 8285 §4.2).
    line.extmap_id(URI_AUDIO_LEVEL).filter(|id| (1..=14).contains(id))
}

/// The codecs that stand under the same number on all lines.
fn common_types(lines: &[&OfferMedia]) -> PayloadTypes {
    let number = |codec: AudioCodec| {
        let mut numbers = lines.iter().map(|line| {
            let chosen = line.choose(&[codec]);
            chosen.first().map(|payload| payload.number)
        });
        let first = numbers.next()??;
        numbers.all(|other| other == Some(first)).then_some(first)
    };
    PayloadTypes { opus: number(AudioCodec::Opus), pcmu: number(AudioCodec::Pcmu), pcma: number(AudioCodec::Pcma) }
}

fn lines(offer: &Offer, uses: &[Use], plan: &PeerPlan) -> Vec<LinePlan> {
    let codecs = |types: &PayloadTypes| -> Vec<AudioCodec> {
        let known = |codec: &AudioCodec| types.number(contract_codec(*codec)).is_some();
        AudioCodec::ALL.into_iter().filter(known).collect()
    };
    let mut slots = plan.slots.iter().enumerate();
    let sending = |line: &OfferMedia, ssrc: u32, name: String| LinePlan::Send {
        payloads: line.choose(&codecs(&plan.receives)),
        ssrc,
        cname: CNAME.to_owned(),
        stream: name.clone(),
        track: name,
    };
    offer
        .media
        .iter()
        .zip(uses)
        .map(|(line, used)| match used {
            Use::Microphone => LinePlan::Receive { payloads: line.choose(&codecs(&plan.sends.unwrap_or_default())) },
            Use::Slot => match slots.next() {
                Some((index, slot)) => sending(line, slot.ssrc, format!("slot{index}")),
                None => LinePlan::Refuse,
            },
            Use::Announcer => match plan.announcer {
                Some(announcer) => sending(line, announcer.ssrc, "announcer".to_owned()),
                None => LinePlan::Refuse,
            },
            Use::Nothing => LinePlan::Refuse,
        })
        .collect()
}

const fn contract_codec(codec: AudioCodec) -> CodecName {
    match codec {
        AudioCodec::Opus => CodecName::Opus,
        AudioCodec::Pcmu => CodecName::Pcmu,
        AudioCodec::Pcma => CodecName::Pcma,
    }
}

struct Words(std::vec::IntoIter<u32>);

impl Words {
    /// Never 0: as an SSRC it means "none" to some.
    fn word(&mut self) -> Option<u32> {
        self.0.find(|word| *word != 0)
    }

    fn line(&mut self) -> Option<Line> {
        let (ssrc, sequence, first_timestamp) = (self.word()?, self.word()?, self.word()?);
        Some(Line { ssrc, first_sequence: (sequence & 0x7fff) as u16, first_timestamp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROMIUM: &str = include_str!("../../../crates/wire/sdp/seeds/webrtc/chromium-slots.sdp");

    fn secrets() -> JoinSecrets {
        JoinSecrets {
            ice: IceCredentials::new("abcdefgh", "0123456789012345678901").unwrap(),
            session_id: 7,
            words: (1..=64).collect(),
        }
    }

    fn join(offer: &str) -> Result<Joined, JoinError> {
        negotiate(offer, secrets(), Fingerprint([1; 32]), vec!["127.0.0.1:7882".parse().unwrap()])
    }

    #[test]
    fn chromiums_offer_gives_a_microphone_slots_and_the_announcer_last() {
        let joined = join(CHROMIUM).unwrap();
        let lines = CHROMIUM.matches("m=audio").count();
        assert_eq!(joined.slot_mids.len(), lines - 2);
        assert_eq!(joined.announcer_mid, Some((lines - 1).to_string()));
        assert_eq!(joined.plan.receives, PayloadTypes { opus: Some(111), pcmu: Some(0), pcma: Some(8) });
        assert_eq!(joined.plan.sends, Some(joined.plan.receives));
        assert_eq!(joined.answer_sdp.matches("a=recvonly").count(), 1);
        assert_eq!(joined.answer_sdp.matches("a=sendonly").count(), lines - 1);
        assert_eq!(joined.answer_sdp.matches(" cname:").count(), lines - 1, "one SSRC per sending line");
    }

    #[test]
    fn a_single_receiving_line_is_a_slot_and_leaves_no_announcer() {
        let mut lines = 0;
        let offer: String = CHROMIUM
            .split_inclusive("\r\n")
            .filter(|line| {
                lines += usize::from(line.starts_with("m="));
                lines <= 2
            })
            .map(|line| if line.starts_with("a=group") { "a=group:BUNDLE 0 1\r\n" } else { line })
            .collect();
        let joined = join(&offer).unwrap();
        assert_eq!((joined.slot_mids.len(), joined.announcer_mid), (1, None));
    }

    #[test]
    fn an_offer_without_a_known_codec_is_refused_by_name() {
        let about_codecs = |line: &&str| !["a=rtpmap", "a=fmtp", "a=rtcp-fb"].iter().any(|a| line.starts_with(a));
        let offer: String = CHROMIUM
            .split_inclusive("\r\n")
            .filter(about_codecs)
            .map(|line| match line.starts_with("m=audio") {
                true => "m=audio 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 speex/8000\r\n",
                false => line,
            })
            .collect();
        assert!(matches!(join(&offer), Err(JoinError::NoCodec)), "{:?}", join(&offer));
        assert!(matches!(join("v=0"), Err(JoinError::Offer(_))));
    }
}
