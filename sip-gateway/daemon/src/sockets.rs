//! The SIP sockets: a task reads each, the gateway's task writes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A UDP datagram may be this long (RFC 3261 §18.1.1).
const LARGEST: usize = 65_535;
/// Datagrams that may wait for the gateway's task; more are dropped and counted, their senders repeat them.
const WAITING: usize = 1_024;

/// A datagram as it came.
#[derive(Debug)]
pub struct Datagram {
    pub from: SocketAddr,
    pub to_local: SocketAddr,
    pub bytes: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot bind UDP {address} for SIP: {source}")]
pub struct SocketError {
    pub address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// All SIP sockets. Dropping it closes them.
pub struct Sockets {
    sockets: Vec<(SocketAddr, Arc<UdpSocket>)>,
    dropped: Arc<AtomicU64>,
    inbox: mpsc::Receiver<Datagram>,
    outbox: mpsc::Sender<Datagram>,
    readers: JoinSet<()>,
}

impl Sockets {
    pub async fn bind(addresses: &[SocketAddr]) -> Result<Self, SocketError> {
        let (outbox, inbox) = mpsc::channel(WAITING);
        let mut all = Self { sockets: Vec::new(), dropped: Arc::default(), inbox, outbox, readers: JoinSet::new() };
        for address in addresses {
            all.open(*address).await?;
        }
        Ok(all)
    }

    /// Opens one more; returns the address bound, whose port is the real one when 0 was asked.
    async fn open(&mut self, address: SocketAddr) -> Result<SocketAddr, SocketError> {
        let named = |source| SocketError { address, source };
        let socket = Arc::new(UdpSocket::bind(address).await.map_err(named)?);
        let local = socket.local_addr().map_err(named)?;
        self.readers.spawn(read(Arc::clone(&socket), local, self.outbox.clone(), Arc::clone(&self.dropped)));
        self.sockets.push((local, socket));
        Ok(local)
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|(address, _)| *address).collect()
    }

    /// The next datagram on any socket.
    pub async fn receive(&mut self) -> Datagram {
        match self.inbox.recv().await {
            Some(datagram) => datagram,
            // Never: this side holds a sender.
            None => std::future::pending().await,
        }
    }

    /// Sends at once or not at all; SIP repeats what matters.
    pub fn send(&self, from_local: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let Some((_, socket)) = self.sockets.iter().find(|(address, _)| *address == from_local) else {
            tracing::error!(%from_local, "no SIP socket has this address");
            return;
        };
        if let Err(error) = socket.try_send_to(bytes, to) {
            tracing::debug!(to = %offhook_runtime::shown(to), %error, "a SIP message was not sent; it will be repeated");
        }
    }

    /// Datagrams dropped because the gateway's task was slow.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

async fn read(socket: Arc<UdpSocket>, local: SocketAddr, outbox: mpsc::Sender<Datagram>, dropped: Arc<AtomicU64>) {
    let mut buffer = vec![0; LARGEST];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // ICMP errors of earlier datagrams end here; anything else must not become a busy loop.
                tracing::debug!(%error, "a SIP socket reports an error");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        match outbox.try_send(Datagram { from, to_local: local, bytes }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                dropped.fetch_add(1, Relaxed);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return,
        }
    }
}
