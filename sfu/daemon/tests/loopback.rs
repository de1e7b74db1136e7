//! The daemon on loopback sockets with peers of another implementation: media both ways.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use offhook_contract::Event;
use offhook_contract::sfu::*;
use std::time::Duration;
use support::{BrowserPlan, Stand, connect, next_event, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_echo_room_returns_each_packet_to_its_sender_under_aes_256_gcm() {
    let stand = Stand::start().await;
    let mut connected = stand.events("peer_connected").await;
    let room = stand.room("echo-1", RoomKind::Echo).await;
    let mut browsers = [stand.join(&room, "leg-a", BrowserPlan::default()).await];
    connect(&mut browsers).await;
    let Event::PeerConnected(event) = next_event(&mut connected).await else { panic!() };
    assert_eq!((event.leg.as_str(), event.srtp_profile.as_str()), ("leg-a", "SRTP_AEAD_AES_256_GCM"));

    let mut said = 0_u8;
    let speak = |all: &mut [support::Browser]| {
        all[0].speak(111, 960, &[0xf8, said, 7, 7]);
        said = said.wrapping_add(1);
    };
    run(&mut browsers, Duration::from_secs(10), speak, |all| all[0].heard.len() >= 100).await;
    let slot = browsers[0].joined.as_ref().unwrap().slot_mids[0].clone();
    for (n, (mid, packet)) in browsers[0].heard.iter().enumerate() {
        assert_eq!(*mid, slot);
        assert_eq!(packet.payload[..], [0xf8, n as u8, 7, 7]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_browsers_hear_each_other_in_opus_and_pcmu_and_not_themselves() {
    let stand = Stand::start().await;
    let mut slots = stand.events("slot_changed").await;
    let room = stand.room("room-2", RoomKind::Conversation).await;
    let alice = stand.join(&room, "alice", BrowserPlan::default()).await;
    let bob = stand.join(&room, "bob", BrowserPlan::default()).await;
    let mut browsers = [alice, bob];
    connect(&mut browsers).await;
    let speak = |all: &mut [support::Browser]| {
        all[0].speak(111, 960, &[0xf8, 1, 1]);
        all[1].speak(0, 160, &[2; 160]);
    };
    run(&mut browsers, Duration::from_secs(10), speak, |all| all.iter().all(|b| b.heard.len() >= 100)).await;
    for (listener, payload_type, payload) in [(0, 0, vec![2; 160]), (1, 111, vec![0xf8, 1, 1])] {
        let browser = &browsers[listener];
        let first = browser.heard[0].1.header.sequence_number;
        for (n, (mid, packet)) in browser.heard.iter().enumerate() {
            assert_eq!(*mid, browser.joined.as_ref().unwrap().slot_mids[0]);
            assert_eq!((*packet.header.payload_type, packet.payload.to_vec()), (payload_type, payload.clone()));
            assert_eq!(packet.header.sequence_number, first.wrapping_add(n as u16));
        }
    }
    for _ in 0..2 {
        let Event::SlotChanged(changed) = next_event(&mut slots).await else { panic!() };
        assert_eq!(changed.slot, 0);
        assert_ne!(Some(changed.listener), changed.speaker);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dtls_from_a_browsers_address_after_its_handshake_takes_no_timers_and_disturbs_nothing() {
    let stand = Stand::start().await;
    let room = stand.room("echo-3", RoomKind::Echo).await;
    let mut browsers = [stand.join(&room, "leg-a", BrowserPlan::default()).await];
    connect(&mut browsers).await;
    let mut said = 0_u8;
    let speak = |all: &mut [support::Browser]| {
        all[0].speak(111, 960, &[0xf8, 7, 7, 7]);
        // A hello, a record under keys, an alert, and what is none of them.
        for first in [22, 23, 21, 63, 20] {
            said = said.wrapping_add(1);
            all[0].throw(&[first, 254, 253, 0, said % 2, 0, 0, 0, 0, 0, said, 0, 2, said, 1]);
        }
    };
    let (refused, ended) = ("sfu_dropped_dtls_rate_total", "sfu_dtls_failed_total");
    let done = |all: &[support::Browser]| all[0].heard.len() >= 100 && stand.figure(refused) > 200;
    run(&mut browsers, Duration::from_secs(20), speak, done).await;
    assert_eq!(stand.figure(ended), 0);
    assert!(stand.figure("sfu_timers") <= 8, "{}", stand.figure("sfu_timers"));
}
