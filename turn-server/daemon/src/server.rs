//! The running server: its threads, its listeners, and what may be told to all of them.
use crate::listen;
use crate::plan::Plan;
use crate::process::raise_descriptor_limit;
use crate::quota::SharedLedger;
use crate::stream::{Door, Spare, accept, idle};
use crate::tls::{Certificate, CertificateFiles, TlsError};
use crate::worker::{Lives, Order, Parts, SharedSnapshot, Snapshot, live};
use offhook_link::{HostThread, HostThreads, House};
use offhook_net::{BindError, Poller, UdpOptions, UdpSocket, Waker};
use offhook_turn_core::{Command, Output, RelayPorts, Settings, Shard, ShardOptions};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Orders waiting for a thread.
const ORDERS: usize = 4_096;
/// Lines waiting to be written.
const NEWS: usize = 4_096;
/// How long media threads of the same process may take to appear.
const HOSTS_WITHIN: Duration = Duration::from_secs(5);
/// Of one thread; a slab of this many is a few dozen MiB.
const ALLOCATIONS_MAX: usize = 65_535;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot listen on TCP {address}: {source}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot start a relaying thread: {0}")]
    Thread(#[from] std::io::Error),
    #[error("the system gives no randomness: {0}")]
    Random(getrandom::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// How to reach a thread.
#[derive(Clone)]
pub(crate) struct Handle {
    orders: SyncSender<Order>,
    waker: Waker,
    spare: SyncSender<Vec<u8>>,
}

impl Handle {
    /// `false` when the thread has more work than it can take.
    pub(crate) fn tell(&self, order: Order) -> bool {
        let told = self.orders.try_send(order).is_ok();
        self.waker.wake();
        told
    }

    /// The order itself when the thread has more work than it can take.
    pub(crate) fn tell_or_return(&self, order: Order) -> Option<Order> {
        use std::sync::mpsc::TrySendError;
        let refused = self.orders.try_send(order).err();
        self.waker.wake();
        refused.map(|(TrySendError::Full(order) | TrySendError::Disconnected(order))| order)
    }

    /// Where buffers of what was for clients go back to.
    pub(crate) const fn spare(&self) -> &SyncSender<Vec<u8>> {
        &self.spare
    }

    /// For what must not be lost: waits for room.
    pub(crate) async fn tell_surely(&self, mut order: Order) {
        use std::sync::mpsc::TrySendError;
        loop {
            order = match self.orders.try_send(order) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => break,
                Err(TrySendError::Full(order)) => order,
            };
            self.waker.wake();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.waker.wake();
    }
}

pub struct Server {
    workers: Vec<Handle>,
    threads: Vec<std::thread::JoinHandle<()>>,
    snapshots: Vec<SharedSnapshot>,
    ledger: SharedLedger,
    idle_s: Arc<AtomicU64>,
    ports: RelayPorts,
    house: House,
    certificate: Option<Arc<Certificate>>,
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    lost: watch::Sender<bool>,
}

impl Server {
    /// Binds everything and starts the threads. What they have to tell comes out of the receiver.
    ///
    /// # Errors
    /// An address that is taken, a certificate that cannot be read.
    pub async fn start(plan: Plan) -> Result<(Self, Receiver<Output>), StartError> {
        Self::start_among(plan, None).await
    }

    /// The same; each thread becomes the guest of one of `hosts`, as soon as there are any, and again after they were
    /// others.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_among(
        mut plan: Plan,
        hosts: Option<HostThreads>,
    ) -> Result<(Self, Receiver<Output>), StartError> {
        raise_descriptor_limit();
        let mut hosts = hosts.map(|hosts| hosts.watch());
        if let Some(hosts) = &mut hosts
            && let Ok(Ok(found)) = tokio::time::timeout(HOSTS_WITHIN, hosts.wait_for(|found| !found.is_empty())).await
        {
            plan.threads = found.len();
        }
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(StartError::Random)?;
        let ledger = SharedLedger::new(plan.limits);
        let ports = RelayPorts::new(&plan.relays, &plan.ports);
        let (news, told) = sync_channel(NEWS);
        let mut server = Self {
            workers: Vec::new(),
            threads: Vec::new(),
            snapshots: Vec::new(),
            ledger,
            idle_s: Arc::new(AtomicU64::new(idle(plan.settings.lifetime_max).as_secs())),
            ports,
            house: House::default(),
            certificate: plan.certificate.clone().map(Certificate::load).transpose()?,
            udp: Vec::new(),
            tcp: Vec::new(),
            tasks: Vec::new(),
            lost: watch::Sender::new(false),
        };
        for index in 0..plan.threads {
            server.start_thread(&plan, index, secret, news.clone())?;
        }
        let door = Arc::new(Door {
            tls: server.certificate.clone(),
            tls_only: plan.tls_only,
            workers: server.workers.clone(),
            idle_s: Arc::clone(&server.idle_s),
        });
        for address in &plan.tcp {
            let refused = |source| StartError::Listen { address: *address, source };
            let listener = listen::tcp(*address).map_err(refused)?;
            server.tcp.push(listener.local_addr().map_err(refused)?);
            server.tasks.push(tokio::spawn(accept(listener, Arc::clone(&door))));
        }
        if let Some(hosts) = hosts {
            server.tasks.push(tokio::spawn(move_in(hosts, server.workers.clone())));
        }
        Ok((server, told))
    }

    fn start_thread(
        &mut self,
        plan: &Plan,
        index: usize,
        secret: [u8; 32],
        news: SyncSender<Output>,
    ) -> Result<(), StartError> {
        let options = UdpOptions { reuse_port: true, ..UdpOptions::default() };
        // Where port 0 was asked for, the threads share what the first one was given.
        let wanted = if self.udp.is_empty() { plan.udp.clone() } else { self.udp.clone() };
        let bound = wanted.iter().map(|address| UdpSocket::bind(*address, options));
        let listeners: Vec<UdpSocket> = bound.collect::<Result<_, _>>()?;
        self.udp = listeners.iter().map(UdpSocket::local_address).collect();
        let poller = Poller::new()?;
        for (token, listener) in (0..).zip(&listeners) {
            poller.add(listener, token)?;
        }
        let waker = poller.waker();
        let (orders, inbox) = sync_channel(ORDERS);
        let (spare, back) = Spare::new();
        let settings = share(&plan.settings, plan.threads);
        let shard = Shard::new(ShardOptions {
            secret,
            shard: index as u16,
            settings: Arc::new(settings),
            relays: plan.relays.clone(),
            ports: self.ports.clone(),
            allocations_max: ALLOCATIONS_MAX,
            quota: Box::new(self.ledger.clone()),
        });
        let snapshot = SharedSnapshot::default();
        self.snapshots.push(Arc::clone(&snapshot));
        let lives = Lives { house: self.house, index: index as u16, ports: self.ports.clone() };
        let parts =
            Parts { shard, listeners, poller, orders: inbox, news, snapshot, start: Instant::now(), lives, spare };
        let watched = Watched(self.lost.clone());
        let thread = std::thread::Builder::new().name(format!("turn-{index}")).spawn(move || {
            if live(parts) {
                watched.ended();
            }
        })?;
        self.threads.push(thread);
        self.workers.push(Handle { orders, waker, spare: back });
        Ok(())
    }

    #[must_use]
    pub fn udp_addresses(&self) -> &[SocketAddr] {
        &self.udp
    }

    #[must_use]
    pub fn tcp_addresses(&self) -> &[SocketAddr] {
        &self.tcp
    }

    /// Allocations of all threads.
    #[must_use]
    pub fn allocations(&self) -> u32 {
        self.ledger.allocations()
    }

    pub(crate) fn workers(&self) -> &[Handle] {
        &self.workers
    }

    pub(crate) fn snapshots(&self) -> Vec<SharedSnapshot> {
        self.snapshots.clone()
    }

    /// Ends when a relaying thread is lost: its sessions are gone, and the server is to be started again.
    pub async fn lost(&self) {
        // The sender lives in `self`.
        let _ = self.lost.subscribe().wait_for(|lost| *lost).await;
    }

    /// New allocations are refused, running ones go on.
    pub async fn drain(&self) {
        for worker in &self.workers {
            worker.tell_surely(Order::Command(Command::Drain)).await;
        }
    }

    /// Users, secrets, quotas and peer ranges; listeners and relay addresses stay as they are.
    pub async fn reload(&self, plan: &Plan) {
        self.ledger.set_limits(plan.limits);
        self.idle_s.store(idle(plan.settings.lifetime_max).as_secs(), Ordering::Relaxed);
        let settings = Arc::new(share(&plan.settings, self.workers.len()));
        for worker in &self.workers {
            worker.tell_surely(Order::Command(Command::Reload { settings: Arc::clone(&settings) })).await;
        }
    }

    /// # Errors
    /// The files cannot be read; the old certificate stays.
    pub fn reload_certificate(&self) -> Result<(), TlsError> {
        self.certificate.as_ref().map_or(Ok(()), |certificate| certificate.reload())
    }

    /// Other files, or other ciphers, for connections that are new; whether TLS is spoken at all stays as it was.
    ///
    /// # Errors
    /// The files cannot be read; everything stays as it was.
    pub fn replace_certificate(&self, files: Option<&CertificateFiles>) -> Result<(), TlsError> {
        self.certificate.as_ref().zip(files).map_or(Ok(()), |(certificate, files)| certificate.replace(files.clone()))
    }

    /// Ends every session and every thread.
    pub async fn stop(mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
        for worker in &self.workers {
            worker.tell_surely(Order::Stop).await;
        }
        for thread in self.threads.drain(..) {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// A server that is left without [`Server::stop`] leaves no thread behind that would keep its ports.
impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
        for worker in &self.workers {
            worker.tell(Order::Stop);
        }
    }
}

/// What one of so many threads may do of what the server may.
fn share(settings: &Settings, threads: usize) -> Settings {
    let threads = threads.max(1) as u64;
    let mut own = settings.clone();
    own.shard_bytes_per_second = share_of(own.shard_bytes_per_second, threads);
    own.shards = threads;
    own
}

/// 0 is no limit, and stays what it is.
const fn share_of(limit: u64, threads: u64) -> u64 {
    if limit == 0 || limit > threads { limit / threads } else { 1 }
}

/// Invites every worker to a host of its own; those for whom there is none stay by themselves.
async fn move_in(mut hosts: watch::Receiver<Vec<HostThread>>, workers: Vec<Handle>) {
    loop {
        let found = hosts.borrow_and_update().clone();
        for (worker, host) in workers.iter().zip(found) {
            worker.tell_surely(Order::Move(host)).await;
        }
        if hosts.changed().await.is_err() {
            return;
        }
    }
}

/// Says that a thread was lost, also when it panicked.
struct Watched(watch::Sender<bool>);

impl Watched {
    fn ended(self) {
        std::mem::forget(self);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

pub(crate) fn read(snapshot: &SharedSnapshot) -> Snapshot {
    *snapshot.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_turn_core::Users;

    #[test]
    fn the_threads_share_what_the_server_may_answer_and_carry() {
        let mut settings = Settings::new(Users::new("r"));
        let mut each = |bytes: u64, threads: usize| {
            settings.shard_bytes_per_second = bytes;
            let own = share(&settings, threads);
            (own.shards, own.shard_bytes_per_second)
        };
        assert_eq!(each(9_000, 1), (1, 9_000));
        assert_eq!(each(9_000, 4), (4, 2_250));
        // Nobody is left with nothing, and no limit stays none.
        assert_eq!(each(3, 8), (8, 1));
        assert_eq!(each(0, 8), (8, 0));
    }
}
