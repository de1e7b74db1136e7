//! From the Tap's records to what the core is told.
use offhook_link::{ClosedReason, Party, TapRecord};
use offhook_recorder_core::{CloseReason, Packet, TapInput, Voice};

pub fn input_of(record: TapRecord<'_>) -> TapInput<'_> {
    match record {
        TapRecord::Hello(hello) => TapInput::Hello {
            recording: hello.recording,
            call: hello.call,
            tenant: hello.tenant,
            clock: hello.clock,
            media_ns: hello.media_ns,
            wall: hello.wall,
        },
        TapRecord::Track { track, party, at_ns } => TapInput::Track { track: track.0, voice: voice_of(party), at_ns },
        TapRecord::Packet(packet) => TapInput::Packet(Packet {
            track: packet.track.0,
            media_ns: packet.media_ns,
            codec: packet.codec,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            payload: packet.payload,
        }),
        TapRecord::AnnouncementStarted { kind, at_ns } => TapInput::AnnouncementStarted { kind, at_ns },
        TapRecord::AnnouncementEnded { kind, at_ns } => TapInput::AnnouncementEnded { kind, at_ns },
        TapRecord::ClockPair { media_ns, wall } => TapInput::ClockPair { media_ns, wall },
        TapRecord::Gap { packets, first_ns, last_ns, .. } => TapInput::Gap { packets, first_ns, last_ns },
        TapRecord::TrackEnded { track, at_ns } => TapInput::TrackEnded { track: track.0, at_ns },
        TapRecord::Closed { reason, at_ns } => TapInput::Closed { reason: reason_of(reason), at_ns },
    }
}

fn voice_of(party: Party) -> Voice {
    match party {
        Party::Leg(leg) => Voice::Leg(leg),
        Party::Announcer => Voice::Announcer,
    }
}

const fn reason_of(reason: ClosedReason) -> CloseReason {
    match reason {
        ClosedReason::Requested => CloseReason::Requested,
        ClosedReason::AnnouncerFailed => CloseReason::AnnouncerFailed,
        ClosedReason::RecorderGone => CloseReason::RecorderGone,
        ClosedReason::Abandoned => CloseReason::Abandoned,
    }
}
