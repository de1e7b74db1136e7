//! Properties that hold for any input; the fuzz targets and the replay tests call them.

use crate::telephony::{self, AudioSession, Codec, LocalDescription};
use crate::webrtc::{AnswerPlan, AudioCodec, Fingerprint, IceCredentials, LinePlan, MediaKind, Offer, write_answer};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Any offer that is read can be answered, and the answer keeps the offer's lines one by one.
///
/// # Panics
/// When the property does not hold.
pub fn webrtc(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(offer) = Offer::parse(text) else { return };
    let usable = |line: &crate::webrtc::OfferMedia| {
        line.kind == MediaKind::Audio
            && line.rtcp_mux
            && offer.is_bundled(&line.mid)
            && !line.choose(&AudioCodec::ALL).is_empty()
    };
    let lines = offer.media.iter().enumerate().map(|(index, line)| {
        let payloads = line.choose(&AudioCodec::ALL);
        if !usable(line) {
            LinePlan::Refuse
        } else if line.direction.sends() {
            LinePlan::Receive { payloads }
        } else if line.direction.receives() {
            let ssrc = 1000 + u32::try_from(index).unwrap_or(u32::MAX);
            LinePlan::Send { payloads, ssrc, cname: "c".into(), stream: "s".into(), track: "t".into() }
        } else {
            LinePlan::Idle { payloads }
        }
    });
    let lines: Vec<LinePlan> = lines.collect();
    let Ok(ice) = IceCredentials::new("ufrag", "pwdpwdpwdpwdpwdpwdpwdpwd") else { return };
    let candidates = vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1)];
    let nothing = lines.iter().all(|line| matches!(line, LinePlan::Refuse));
    let plan =
        AnswerPlan { session_id: 1, session_version: 1, ice, fingerprint: Fingerprint([0; 32]), candidates, lines };
    match write_answer(&offer, &plan) {
        Ok(answer) => {
            let count = answer.lines().filter(|line| line.starts_with("m=")).count();
            assert_eq!(count, offer.media.len(), "one line each");
            assert!(answer.split("\r\n").all(|line| line.is_empty() || line.as_bytes().get(1) == Some(&b'=')));
        }
        Err(error) => assert!(nothing, "a fitting plan was refused: {error}"),
    }
}

/// Any offer that is read and agreed on is answered by a text that the offerer accepts; extra lines are declined.
///
/// # Panics
/// When the property does not hold.
pub fn telephony(data: &[u8]) {
    let Ok(offer) = telephony::Description::parse_bytes(data) else { return };
    let family = offer.audio().map(|(_, audio)| audio.address);
    let address = match family {
        Some(IpAddr::V6(_)) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let ours = AudioSession::new(address, 30_000, &[Codec::Pcma, Codec::Pcmu]);
    let Ok((answer, agreed)) = telephony::negotiate(&offer, &ours) else { return };
    let mut local = LocalDescription::new(u64::MAX);
    let text = local.answer(&offer, &answer);
    assert_eq!(local.answer(&offer, &answer), text, "no change, no new version");
    let Ok(read) = telephony::Description::parse(&text) else {
        return assert!(text.len() > crate::MAX_BYTES);
    };
    assert_eq!(read.media.len(), offer.media.len());
    let open = read.media.iter().filter(|line| line.session.port != 0);
    assert_eq!(open.count(), 1);
    assert_eq!(read.audio().map(|(_, audio)| audio.clone()), Some(answer));
    assert!(agreed.receive.contains(&agreed.send));
    assert_eq!(agreed.held_by_remote, offer.audio().is_some_and(|(_, audio)| audio.is_hold()));
}
