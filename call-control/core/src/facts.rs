//! Facts: what must not be lost. Each is written with the state that it changes, and may come late or again.
use crate::board::Switchboard;
use crate::ending::{End, end_call};
use crate::ids::Now;
use crate::leg::{PeerMedia, TelephoneMedia};
use crate::media::activate;
use crate::recording;
use crate::rows::{CallEventRow, ConsentRow, ConsentStatus, RecordingOutcome, Write};
use crate::view::{RecordingTrouble, RecordingWord};
use offhook_contract::fact::{ConsentKind, TapCloseReason};
use offhook_contract::{Fact, FactRecord, HangupCause, LegId, RecordingId, UnixMs};

impl Switchboard {
    pub(crate) fn fact(&mut self, now: Now, record: FactRecord) {
        self.write_fact(&record);
        let call = self.calls.get_mut(&record.call).filter(|c| c.tenant == record.tenant);
        let Some(call) = call else { return };
        let desk = &mut self.desk;
        match &record.fact {
            Fact::LegAnswered { leg } => {
                let known = call.leg(leg).is_some_and(|l| l.is_live() && l.telephone().is_some());
                if known {
                    activate(call, desk, now, record.at_ms);
                }
            }
            Fact::LegEnded { leg, cause, .. } => leg_ended(call, desk, now, leg, *cause, record.at_ms),
            Fact::TapClosed { recording, reason } => recording::tap_closed(call, desk, now, recording, *reason),
            Fact::SegmentStarted { recording, .. } => recording::segment_started(call, recording, record.at_ms),
            Fact::RecordingFinished { recording, .. } => recording::finished(call, recording),
            Fact::RecordingFailed { recording, reason } => recording::failed(call, desk, now, recording, reason),
            Fact::AnnouncementReceived { .. } | Fact::AnnouncementUnconfirmed { .. } | Fact::ConsentPlayed { .. } => {}
        }
        self.desk.touched.insert(record.call);
    }

    /// What a fact says is written also when its call has been forgotten.
    fn write_fact(&mut self, record: &FactRecord) {
        let (kind, leg, data) = line(&record.fact);
        self.desk.write(Write::Event(CallEventRow {
            tenant: record.tenant.clone(),
            call: record.call.clone(),
            id: line_id(record),
            at: record.at_ms,
            kind,
            leg,
            data,
        }));
        let outcome = |recording: &RecordingId, outcome| Write::Recording {
            tenant: record.tenant.clone(),
            call: record.call.clone(),
            recording: recording.clone(),
            at: record.at_ms,
            outcome,
        };
        let consent =
            |recording: &RecordingId, segment, kind: ConsentKind, played: UnixMs, status, leg: Option<&LegId>| {
                Write::Consent(ConsentRow {
                    tenant: record.tenant.clone(),
                    call: record.call.clone(),
                    recording: recording.clone(),
                    segment,
                    kind,
                    played,
                    status,
                    leg: leg.cloned(),
                })
            };
        let write = match &record.fact {
            Fact::LegAnswered { .. } | Fact::LegEnded { .. } => return,
            Fact::TapClosed { recording, reason } => {
                let reason = match reason {
                    TapCloseReason::Requested => return,
                    TapCloseReason::AnnouncerFailed => RecordingTrouble::AnnouncerFailed,
                    TapCloseReason::RecorderGone => RecordingTrouble::RecorderGone,
                };
                let state = RecordingOutcome::State { state: RecordingWord::Failed, reason: Some(reason.into()) };
                outcome(recording, state)
            }
            Fact::SegmentStarted { recording, segment } => {
                outcome(recording, RecordingOutcome::Segment { segment: *segment })
            }
            Fact::RecordingFinished { recording, files, segments, duration_ms } => {
                let (files, segments) = (files.clone(), segments.clone());
                outcome(recording, RecordingOutcome::Finished { files, segments, duration_ms: *duration_ms })
            }
            Fact::RecordingFailed { recording, reason } => {
                let reason = Some(reason.as_str().into());
                outcome(recording, RecordingOutcome::State { state: RecordingWord::Failed, reason })
            }
            Fact::ConsentPlayed { recording, segment, kind, played_ms } => {
                consent(recording, Some(*segment), *kind, *played_ms, ConsentStatus::Played, None)
            }
            Fact::AnnouncementReceived { recording, leg, kind, played_ms } => {
                consent(recording, None, *kind, *played_ms, ConsentStatus::Received, Some(leg))
            }
            Fact::AnnouncementUnconfirmed { recording, leg, kind, played_ms } => {
                consent(recording, None, *kind, *played_ms, ConsentStatus::Unconfirmed, Some(leg))
            }
        };
        self.desk.write(write);
    }
}

fn leg_ended(
    call: &mut crate::call::Call,
    desk: &mut crate::desk::Desk,
    now: Now,
    leg: &LegId,
    cause: HangupCause,
    at: UnixMs,
) {
    let Some(found) = call.leg_mut(leg).filter(|l| l.is_live()) else { return };
    if let Some(browser) = found.browser() {
        // The page has joined anew since: the fact is about its former transport.
        let joined = match browser.media {
            PeerMedia::None => None,
            PeerMedia::Joined { at } | PeerMedia::Connected { joined: at } => Some(at),
        };
        if joined.is_none_or(|joined| at < joined) {
            return;
        }
    }
    if let Some(telephone) = found.telephone_mut() {
        telephone.media = TelephoneMedia::Gone;
    }
    end_call(call, desk, now, &End { cause, by: Some(leg.clone()), released: true, at: Some(at) });
}

/// What makes two records the same line. A recorder that comes back from a crash tells what it finds on its disk under
/// new numbers: what a recording can say once only is named by what it says. A leg may end more than once (a page that
/// joins anew), so that there the outbox's number counts.
fn line_id(record: &FactRecord) -> String {
    let said = |what: &str, kind: &ConsentKind, played: &UnixMs| {
        let kind = if *kind == ConsentKind::Notice { "notice" } else { "beep" };
        format!("{what}:{kind}:{}", played.0)
    };
    match &record.fact {
        Fact::LegAnswered { .. } | Fact::LegEnded { .. } => format!("{}:{}", record.producer, record.sequence),
        Fact::SegmentStarted { recording, segment } => format!("{recording}:segment:{segment}"),
        Fact::RecordingFinished { recording, .. } => format!("{recording}:finished"),
        Fact::RecordingFailed { recording, .. } => format!("{recording}:failed"),
        Fact::TapClosed { recording, .. } => format!("{recording}:tap_closed"),
        Fact::ConsentPlayed { recording, segment, kind, played_ms } => {
            said(&format!("{recording}:played:{segment}"), kind, played_ms)
        }
        Fact::AnnouncementReceived { recording, leg, kind, played_ms } => {
            said(&format!("{recording}:received:{leg}"), kind, played_ms)
        }
        Fact::AnnouncementUnconfirmed { recording, leg, kind, played_ms } => {
            said(&format!("{recording}:unconfirmed:{leg}"), kind, played_ms)
        }
    }
}

/// A fact as a line of the call's story.
fn line(fact: &Fact) -> (&'static str, Option<LegId>, serde_json::Value) {
    use serde_json::json;
    match fact {
        Fact::LegAnswered { leg } => ("leg_answered", Some(leg.clone()), json!({})),
        Fact::LegEnded { leg, cause, sip_status } => {
            ("leg_ended", Some(leg.clone()), json!({ "cause": cause, "sip_status": sip_status }))
        }
        Fact::TapClosed { recording, reason } => {
            ("tap_closed", None, json!({ "recording": recording, "reason": reason }))
        }
        Fact::AnnouncementReceived { recording, leg, kind, played_ms } => {
            let data = json!({ "recording": recording, "kind": kind, "played_ms": played_ms });
            ("announcement_received", Some(leg.clone()), data)
        }
        Fact::AnnouncementUnconfirmed { recording, leg, kind, played_ms } => {
            let data = json!({ "recording": recording, "kind": kind, "played_ms": played_ms });
            ("announcement_unconfirmed", Some(leg.clone()), data)
        }
        Fact::SegmentStarted { recording, segment } => {
            ("segment_started", None, json!({ "recording": recording, "segment": segment }))
        }
        Fact::ConsentPlayed { recording, segment, kind, played_ms } => {
            let data = json!({ "recording": recording, "segment": segment, "kind": kind, "played_ms": played_ms });
            ("consent_played", None, data)
        }
        Fact::RecordingFinished { recording, duration_ms, .. } => {
            ("recording_finished", None, json!({ "recording": recording, "duration_ms": duration_ms }))
        }
        Fact::RecordingFailed { recording, reason } => {
            ("recording_failed", None, json!({ "recording": recording, "reason": reason }))
        }
    }
}
