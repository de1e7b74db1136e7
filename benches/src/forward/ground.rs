//! The receivers' sockets and the sender's pace: the same for both sides of the comparison.
use super::{PACKETS_PER_SECOND, RECEIVERS};
use anyhow::ensure;
use offhook_net::{Poller, Ready};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// What still travels when the last packet has been sent.
const GRACE: Duration = Duration::from_secs(5);

/// How many packets are sent, how fast, and how many receivers each one has.
pub struct Pace {
    pub packets: u32,
    pub per_second: u32,
    pub fan_out: u64,
    /// Bytes in front of each packet as it arrives.
    pub header: usize,
}

impl Pace {
    pub const fn of_forwarding(packets: u32) -> Self {
        Self { packets, per_second: PACKETS_PER_SECOND, fan_out: RECEIVERS as u64, header: 0 }
    }
}

/// Sends packets by the clock and reads every receiver's socket in between. `took` gets each datagram.
pub fn drive(
    sockets: &[UdpSocket],
    pace: &Pace,
    mut send: impl FnMut(u32) -> anyhow::Result<()>,
    mut took: impl FnMut(usize, &mut [u8]) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let Pace { packets, per_second, fan_out, header } = *pace;
    let mut poller = Poller::new()?;
    for (token, socket) in (0..).zip(sockets) {
        poller.add(socket, token)?;
    }
    let mut ready = Ready::default();
    let interval = Duration::from_secs(1) / per_second;
    let begun = Instant::now();
    let end = begun + interval * packets + GRACE;
    let (mut sent, mut received) = (0, 0_u64);
    let expected = u64::from(packets) * fan_out;
    let mut buffer = [0; 2_048];
    while received < expected && Instant::now() < end {
        while sent < packets && Instant::now() >= begun + interval * sent {
            send(sent)?;
            sent += 1;
        }
        let next = if sent < packets { begun + interval * sent } else { end };
        poller.wait(Some(next.saturating_duration_since(Instant::now())), &mut ready)?;
        for token in ready.tokens() {
            let index = *token as usize;
            let Some(socket) = sockets.get(index) else { continue };
            while let Ok(len) = socket.recv(&mut buffer) {
                // RTCP of the other side is no forwarded packet.
                let packet = &mut buffer[header.min(len)..len];
                if packet.len() > 2 && !(192..=223).contains(&packet[1]) && packet[0] >> 6 == 2 {
                    received += 1;
                    took(index, packet)?;
                }
            }
        }
    }
    ensure!(received == expected, "{received} of {expected} packets arrived");
    Ok(received)
}
