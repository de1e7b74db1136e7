//! The receivers' sockets and the sender's pace: the same for both sides of the comparison.
use super::{PACKETS_PER_SECOND, RECEIVERS};
use anyhow::ensure;
use offhook_net::{Poller, Ready};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// What still travels when the last packet has been sent.
const GRACE: Duration = Duration::from_secs(5);

/// Sends `packets` packets by the clock and reads every receiver's socket in between. `took` gets each datagram.
pub fn drive(
    sockets: &[UdpSocket],
    packets: u32,
    mut send: impl FnMut(u32) -> anyhow::Result<()>,
    mut took: impl FnMut(usize, &mut [u8]) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    ensure!(sockets.len() == RECEIVERS, "{} receivers", sockets.len());
    let mut poller = Poller::new()?;
    for (token, socket) in (0..).zip(sockets) {
        poller.add(socket, token)?;
    }
    let mut ready = Ready::default();
    let interval = Duration::from_secs(1) / PACKETS_PER_SECOND;
    let begun = Instant::now();
    let end = begun + interval * packets + GRACE;
    let (mut sent, mut received) = (0, 0_u64);
    let expected = u64::from(packets) * RECEIVERS as u64;
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
                if len > 2 && !(192..=223).contains(&buffer[1]) && buffer[0] >> 6 == 2 {
                    received += 1;
                    took(index, &mut buffer[..len])?;
                }
            }
        }
    }
    ensure!(received == expected, "{received} of {expected} packets arrived");
    Ok(received)
}
