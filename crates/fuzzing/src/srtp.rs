//! SRTP under fixed keys: any input as a sealed packet, and as a plain one that must come back.

use std::sync::OnceLock;

use offhook_wire_rtp::HeaderView;
use offhook_wire_srtp::{MAX_TRAILER_LEN, Profile, ReceiveContext, SendContext, SrtpError, SrtpKey};

/// The key of a profile: the bytes 0, 1, 2, … cut to length.
#[must_use]
pub fn key(profile: Profile) -> SrtpKey {
    let bytes: Vec<u8> = (0..32).collect();
    SrtpKey::new(profile, &bytes[..profile.key_len()], &bytes[..profile.salt_len()]).unwrap()
}

/// Deriving keys costs more than a packet, so the senders that keep no state are made once.
fn sender(profile: Profile) -> &'static SendContext {
    static SENDERS: OnceLock<Vec<SendContext>> = OnceLock::new();
    let senders = SENDERS.get_or_init(|| Profile::ALL.iter().map(|p| SendContext::new(&key(*p)).unwrap()).collect());
    senders.iter().find(|sender| sender.profile() == profile).unwrap()
}

pub fn run(data: &[u8]) {
    for profile in Profile::ALL {
        let mut receiver = ReceiveContext::with_max_sources(&key(profile), 2).unwrap();
        hostile_rtp(&mut receiver, data);
        hostile_rtcp(&mut receiver, data);
        plain_rtp_comes_back(profile, data);
        plain_rtcp_comes_back(profile, data);
    }
}

/// What opens was sealed under this key, so sealing it again gives the same bytes; it opens once.
fn hostile_rtp(receiver: &mut ReceiveContext, data: &[u8]) {
    let profile = receiver.profile();
    let mut buf = data.to_vec();
    let Ok(opened) = receiver.open_rtp(&mut buf) else {
        return assert_eq!(receiver.source_count(), 0, "state without authentication");
    };
    assert_eq!(opened.len + profile.tag_len(), data.len());
    assert_eq!(sender(profile).protect_rtp_with_index(&mut buf, opened.len, opened.index), Ok(data.len()));
    assert_eq!(buf, data);
    assert_eq!(receiver.unprotect_rtp(&mut buf), Err(SrtpError::Replayed));
}

fn hostile_rtcp(receiver: &mut ReceiveContext, data: &[u8]) {
    let mut buf = data.to_vec();
    let Ok(len) = receiver.unprotect_rtcp(&mut buf) else { return };
    assert_eq!(len + receiver.profile().rtcp_trailer_len(), data.len());
    assert_eq!(receiver.unprotect_rtcp(&mut data.to_vec()), Err(SrtpError::Replayed));
}

fn plain_rtp_comes_back(profile: Profile, data: &[u8]) {
    let Ok(view) = HeaderView::parse(data) else {
        let refused = sender(profile).protect_rtp_with_index(&mut data.to_vec(), data.len(), 0);
        return assert!(matches!(refused, Err(SrtpError::Rtp(_))));
    };
    // Any cycle, picked by the timestamp, so that the counter's every bit takes part.
    let index = (u64::from(view.header.timestamp) << 16) | u64::from(view.header.sequence);
    let mut buf = roomy(data);
    let len = sender(profile).protect_rtp_with_index(&mut buf, data.len(), index).unwrap();
    assert_eq!(len, data.len() + profile.tag_len());
    assert_eq!(buf[..view.len()], data[..view.len()], "the header stays in clear");

    let mut receiver = ReceiveContext::new(&key(profile)).unwrap();
    receiver.expect_index(view.header.ssrc, index.saturating_sub(1)).unwrap();
    let mut forged = buf[..len].to_vec();
    forged[len - 1 - data.len() % profile.tag_len()] ^= 1 << (data.len() % 8);
    assert_eq!(receiver.unprotect_rtp(&mut forged), Err(SrtpError::Authentication));
    let opened = receiver.open_rtp(&mut buf[..len]).unwrap();
    assert_eq!((opened.index, &buf[..opened.len]), (index, data));
}

fn plain_rtcp_comes_back(profile: Profile, data: &[u8]) {
    let mut sender = SendContext::new(&key(profile)).unwrap();
    let mut buf = roomy(data);
    let Ok(len) = sender.protect_rtcp(&mut buf, data.len()) else {
        return assert!(data.len() < 8 || data[0] >> 6 != 2);
    };
    let mut receiver = ReceiveContext::new(&key(profile)).unwrap();
    assert_eq!(receiver.unprotect_rtcp(&mut buf[..len]), Ok(data.len()));
    assert_eq!(&buf[..data.len()], data);
}

fn roomy(data: &[u8]) -> Vec<u8> {
    let mut buf = data.to_vec();
    buf.resize(data.len() + MAX_TRAILER_LEN, 0);
    buf
}
