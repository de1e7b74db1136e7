//! Browsers as far as the bench needs them: two to a room, each behind an allocation of its own, each with a packet of PCMU
//! every 20 ms. One thread that never sleeps sends and hears for all of them.
use super::CHANNELS_FROM;
use crate::forward::client::{Client, ClientIdentity, Wire};
use crate::forward::{PAYLOAD_BYTES, payload};
use anyhow::{Context as _, ensure};
use offhook_net::{Poller, Ready};
use offhook_testkit::TurnClient;
use offhook_wire_rtp::{RtpHeader, RtpPacket};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// A payload names its leg in one byte.
const LEGS_MAX: usize = 256;
const PACKETS_PER_SECOND: u32 = 50;
/// Looking is felt by the server, whose packets meet a held lock.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// Further behind than this, packets fall out instead of being made up for in a burst.
const BEHIND_AT_MOST: Duration = Duration::from_millis(2);
const GRACE: Duration = Duration::from_millis(500);
/// In front of each packet from a channel.
const CHANNEL_HEADER: usize = 4;
/// A machine that stands still for a moment loses packets for everybody.
const LOSS_AT_MOST: f64 = 0.02;

pub struct Legs {
    all: Vec<Client>,
    sockets: Vec<UdpSocket>,
    poller: Poller,
    ready: Ready,
    /// Packets of each leg, and the number of the last one heard by each.
    sent: Vec<u32>,
    heard: Vec<u32>,
    next: usize,
}

/// A leg in a room, through a channel of the TURN server to where the answer says that the room is.
pub fn connect(identity: &ClientIdentity, answer: &str, mut turn: TurnClient) -> anyhow::Result<Client> {
    turn.allocate()?;
    turn.bind(CHANNELS_FROM, candidate(answer)?)?;
    Client::connect_by(identity, answer, Wire::Relayed(turn, CHANNELS_FROM))
}

/// Where the room's thread is reached.
fn candidate(answer: &str) -> anyhow::Result<SocketAddr> {
    let words: Option<Vec<&str>> =
        answer.lines().find_map(|line| Some(line.strip_prefix("a=candidate:")?.split(' ').collect()));
    let words = words.context("a candidate in the answer")?;
    let (ip, port) = words.get(4).zip(words.get(5)).context("a candidate's address")?;
    Ok(format!("{ip}:{port}").parse()?)
}

impl Legs {
    /// Leg n and leg n ^ 1 are in one room.
    pub fn new(all: Vec<Client>) -> anyhow::Result<Self> {
        ensure!(all.len() <= LEGS_MAX && all.len().is_multiple_of(2), "{} legs", all.len());
        let poller = Poller::new()?;
        let sockets = all.iter().map(|leg| leg.wire.socket().try_clone()).collect::<Result<Vec<_>, _>>()?;
        for (token, socket) in (0..).zip(&sockets) {
            poller.add(socket, token)?;
        }
        let (sent, heard) = (vec![0; all.len()], vec![0; all.len()]);
        Ok(Self { all, sockets, poller, ready: Ready::default(), sent, heard, next: 0 })
    }

    /// Keeps everyone's consent alive.
    pub fn check(&self) -> anyhow::Result<()> {
        self.all.iter().try_for_each(Client::check)
    }

    /// Every leg sends in its turn, and hears the other one of its room; returns how many packets arrived.
    pub fn drive(&mut self, lasts: Duration) -> anyhow::Result<u64> {
        let interval = Duration::from_secs(1) / PACKETS_PER_SECOND / self.all.len() as u32;
        let (mut sent, mut heard) = (0, 0);
        let begun = Instant::now();
        let (mut due, mut look) = (begun, begun);
        let mut quiet_since = begun;
        loop {
            let now = Instant::now();
            let is_over = now - begun >= lasts;
            if !is_over && now >= due {
                due = due.max(now - BEHIND_AT_MOST) + interval;
                self.send()?;
                sent += 1;
            } else if now >= look {
                look = now + LOOK_EVERY;
                let more = self.look()?;
                heard += more;
                if more > 0 || !is_over {
                    quiet_since = now;
                }
                if is_over && (heard >= sent || quiet_since.elapsed() > GRACE) {
                    break;
                }
            } else {
                std::hint::spin_loop();
            }
        }
        let loss = 1.0 - heard as f64 / sent as f64;
        ensure!(loss <= LOSS_AT_MOST, "{heard} of {sent} packets arrived");
        if loss > 0.0 {
            eprintln!("{} of {sent} packets were lost", sent - heard);
        }
        Ok(heard)
    }

    fn send(&mut self) -> anyhow::Result<()> {
        let index = self.next % self.all.len();
        self.next = index + 1;
        self.sent[index] += 1;
        let count = self.sent[index];
        let mut datagram = [0; 12 + PAYLOAD_BYTES + 16];
        let (sequence, timestamp) = ((count & 0xffff) as u16, count.wrapping_mul(160));
        let ssrc = 1_000 + index as u32;
        RtpHeader { marker: false, payload_type: 0, sequence, timestamp, ssrc }.write(&mut datagram)?;
        datagram[12..12 + PAYLOAD_BYTES].copy_from_slice(&payload(count << 8 | index as u32));
        let Client { wire, send, .. } = &mut self.all[index];
        let length = send.protect_rtp(&mut datagram, 12 + PAYLOAD_BYTES)?;
        wire.send(&datagram[..length])
    }

    fn look(&mut self) -> anyhow::Result<u64> {
        let Self { all, sockets, poller, ready, heard, .. } = self;
        poller.wait(Some(Duration::ZERO), ready)?;
        let mut count = 0;
        let mut buffer = [0; 2_048];
        for token in ready.tokens() {
            let index = *token as usize;
            while let Ok(length) = sockets[index].recv(&mut buffer) {
                // STUN and RTCP of the other side are no forwarded packets.
                let packet = &mut buffer[CHANNEL_HEADER.min(length)..length];
                if packet.len() < 2 || packet[0] >> 6 != 2 || (192..=223).contains(&packet[1]) {
                    continue;
                }
                let length = all[index].receive.unprotect_rtp(packet)?;
                let packet = RtpPacket::parse(&packet[..length])?;
                let number = packet.payload().first_chunk().map_or(0, |number| u32::from_be_bytes(*number));
                let is_whole = packet.payload() == payload(number) && (number & 0xff) as usize == index ^ 1;
                ensure!(is_whole && number >> 8 > heard[index], "leg {index} heard something else");
                heard[index] = number >> 8;
                count += 1;
            }
        }
        Ok(count)
    }
}
