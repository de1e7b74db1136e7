//! A leg's media allocates nothing per packet: not for the carrier's, not for the room's, not for ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use offhook_media::tone::{BeepSpec, Sine};
use offhook_media::{Codec, OpusEncoder, encode_beep};
use offhook_sip_core::media::{LegMedia, LegMediaConfig, LegNumbers, LinkStreams, RemoteMedia, TrunkInput};
use offhook_testkit::CountingAllocator;
use offhook_wire_rtp::RtpHeader;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const SLOT: u32 = 1;
const ANNOUNCER: u32 = 2;

fn leg() -> LegMedia {
    let config = LegMediaConfig {
        numbers: LegNumbers { ssrc: 9, sequence: 1, timestamp: 1 },
        cname: "test".into(),
        unix_ns_at_zero: 0,
        hold_prompt: Arc::new(encode_beep(&BeepSpec::default()).unwrap()),
        media_timeout: Duration::from_secs(30),
    };
    let mut leg = LegMedia::new(Duration::ZERO, config);
    let rtp = "192.0.2.1:4000".parse().unwrap();
    leg.set_link(LinkStreams::new(7, &[SLOT], ANNOUNCER).unwrap());
    leg.set_remote(
        Duration::ZERO,
        RemoteMedia {
            rtp,
            rtcp: rtp,
            codec: Codec::Pcma,
            payload_type: 8,
            receive: [Some((8, Codec::Pcma)), None],
            send_events: Some(101),
            receive_events: Some(101),
            sends: true,
            receives: true,
        },
    );
    leg.answered(Duration::ZERO);
    leg
}

/// Opus in the slot, PCMU on the Announcer, PCMA from the carrier; every seventh packet of each is lost.
fn packets() -> Vec<[Vec<u8>; 3]> {
    let mut encoder = OpusEncoder::new(48_000, 5, 32_000).unwrap();
    let mut voice = Sine::new(700.0, -12.0, 48_000);
    let packet = |payload_type, n: u32, ticks, ssrc, payload: &[u8]| {
        let header =
            RtpHeader { marker: false, payload_type, sequence: n as u16, timestamp: n.wrapping_mul(ticks), ssrc };
        let mut bytes = vec![0; 12];
        header.write(&mut bytes).unwrap();
        bytes.extend_from_slice(payload);
        bytes
    };
    (0..600)
        .map(|n| {
            let (mut pcm, mut out) = ([0; 960], [0; 1_276]);
            voice.fill(&mut pcm);
            let used = encoder.encode(&pcm, &mut out).unwrap();
            [
                packet(111, n, 960, SLOT, &out[..used]),
                packet(0, n, 160, ANNOUNCER, &[0x70; 160]),
                packet(8, n, 160, 33, &[0x55; 160]),
            ]
        })
        .collect()
}

#[test]
fn twelve_seconds_of_a_call_cost_no_allocation() {
    let (mut leg, packets) = (leg(), packets());
    let from = "192.0.2.1:4000".parse().unwrap();
    let (mut buffer, mut sent, mut forwarded) = ([0u8; 1_500], 0u32, 0u32);
    let ((), counted) = CountingAllocator::during(|| {
        for (n, [slot, announcer, carrier]) in packets.iter().enumerate() {
            let now = Duration::from_millis(n as u64 * 20);
            if n % 7 != 0 {
                leg.handle_link_rtp(now, slot);
                leg.handle_link_rtp(now, announcer);
                let input = leg.handle_trunk_rtp(now, from, carrier, &mut buffer);
                forwarded += u32::from(matches!(input, TrunkInput::Forward(_)));
            }
            leg.handle_timeout(now);
            while leg.poll_output(now, &mut buffer).is_some() {
                sent += 1;
            }
            while leg.poll_event().is_some() {}
        }
    });
    assert!(sent > 600 && forwarded > 500, "{sent} {forwarded}");
    assert_eq!(counted, 0);
}
