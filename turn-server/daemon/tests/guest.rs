//! Relaying threads as the guests of another daemon's threads: what either sends to the other needs no socket, whichever
//! threads they live on, and the allocations outlive their hosts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "rig/tcp.rs"]
mod tcp;

use crate::tcp::ByTcp;
use offhook_link::{Handed, Host, HostThread, HostThreads, Lodging, Neighbours, Stay, neighbourhood};
use offhook_net::{Poller, Ready};
use offhook_testkit::{CountingAllocator, TurnClient};
use offhook_turn::{Plan, Server};
use offhook_turn_core::MediaPeer;
use offhook_turn_core::conf::Reading;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const CHANNEL: u16 = 0x4000;
/// Of a datagram that an echo returns, and as many as it holds without growing.
const ECHO_BYTES: usize = 256;
const ECHOES: usize = 4_096;
/// Longer than anything takes that is handed over.
const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(5);

fn plan(media: &[SocketAddr], options: &str) -> Plan {
    let mut reading = Reading::default();
    reading.add_file(&format!(
        "listening-ip=127.0.0.1\nlistening-port=0\ntls-listening-port=0\nrelay-ip=127.0.0.1\nrealm=r\nlt-cred-mech\n\
         user=alice:sesame\nno-tcp\nno-tls\nno-dtls\nmin-port=40000\nmax-port=48000\nunauthorized-ratelimit=off\n{options}"
    ));
    let mut plan = Plan::of(&reading.conf).unwrap();
    plan.udp = vec!["127.0.0.1:0".parse().unwrap()];
    plan.settings.policy.media = media.iter().map(|at| MediaPeer { announced: *at, local: *at }).collect();
    plan
}

/// What a thread that echoes does when it is told to.
enum Order {
    End,
    Bury,
    /// Nothing, until something comes here.
    Stall(Receiver<()>),
}

/// Returns every datagram to where it came from, in capitals; one with a star, twenty times.
struct Echo {
    media: SocketAddr,
    neighbours: Neighbours,
    heard: Vec<(SocketAddr, [u8; ECHO_BYTES], usize)>,
    came: Arc<Came>,
}

#[derive(Default)]
struct Came {
    from_guest: AtomicUsize,
    by_parcel: AtomicUsize,
    /// Allocations of the thread, its guest's among them, so far.
    allocated: AtomicU64,
}

impl Came {
    fn all(&self) -> usize {
        self.from_guest.load(Ordering::Relaxed) + self.by_parcel.load(Ordering::Relaxed)
    }
}

impl Echo {
    fn hear(&mut self, from: SocketAddr, datagram: &mut [u8]) {
        datagram.make_ascii_uppercase();
        let times = if datagram.starts_with(b"*") { 20 } else { 1 };
        let mut bytes = [0; ECHO_BYTES];
        bytes[..datagram.len()].copy_from_slice(datagram);
        self.heard.extend((0..times).map(|_| (from, bytes, datagram.len())));
    }
}

impl Host for Echo {
    fn hand_over(&mut self, from: SocketAddr, to: SocketAddr, datagram: &mut [u8]) -> bool {
        if to != self.media {
            return self.neighbours.hand_over(from, to, datagram);
        }
        self.came.from_guest.fetch_add(1, Ordering::Relaxed);
        self.hear(from, datagram);
        true
    }
}

struct EchoThread {
    orders: Sender<Order>,
    wake: offhook_net::Waker,
    thread: JoinHandle<()>,
    came: Arc<Came>,
    /// Stands at its address, and hears what was not handed over.
    socket: UdpSocket,
}

impl EchoThread {
    fn tell(&self, order: Order) {
        self.orders.send(order).unwrap();
        self.wake.wake();
    }

    fn end(self, order: Order) -> UdpSocket {
        self.tell(order);
        self.thread.join().unwrap();
        self.socket
    }

    fn by_socket(&self) -> usize {
        let mut buffer = [0; 64];
        std::iter::from_fn(|| self.socket.recv(&mut buffer).ok()).count()
    }
}

fn sockets(count: usize) -> Vec<UdpSocket> {
    let socket = |_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    (0..count).map(socket).collect()
}

fn addresses(sockets: &[UdpSocket]) -> Vec<SocketAddr> {
    sockets.iter().map(|socket| socket.local_addr().unwrap()).collect()
}

/// A thread for each socket, in whose place it echoes.
fn start(hosts: &HostThreads, sockets: Vec<UdpSocket>) -> Vec<EchoThread> {
    let pollers: Vec<Poller> = sockets.iter().map(|_| Poller::new().unwrap()).collect();
    let open = |poller: &Poller| {
        let bell = poller.waker();
        HostThread::open(move || bell.wake())
    };
    let (doors, insides): (Vec<_>, Vec<_>) = pollers.iter().map(open).unzip();
    let each: Vec<_> = doors.iter().cloned().zip(addresses(&sockets).into_iter().map(|at| vec![at])).collect();
    let views = neighbourhood(&each);
    let made = sockets.into_iter().zip(pollers).zip(insides).zip(views);
    let threads = made.map(|(((socket, poller), door), neighbours)| {
        let (orders, inbox) = channel();
        let (wake, came) = (poller.waker(), Arc::new(Came::default()));
        let media = socket.local_addr().unwrap();
        let echo = Echo { media, neighbours, heard: Vec::with_capacity(ECHOES), came: Arc::clone(&came) };
        let thread = std::thread::spawn(move || live(poller, &door, &inbox, echo));
        EchoThread { orders, wake, thread, came, socket }
    });
    let threads = threads.collect();
    hosts.publish(doors);
    threads
}

fn live(mut poller: Poller, door: &Receiver<Lodging>, orders: &Receiver<Order>, mut echo: Echo) {
    let mut ready = Ready::default();
    let mut lodging: Option<Lodging> = None;
    loop {
        let due = lodging.as_mut().and_then(Lodging::guest).map(|guest| guest.due_in());
        let due = if echo.neighbours.may_sleep() { due } else { Some(Duration::ZERO) };
        poller.wait(due, &mut ready).unwrap();
        let has_mail = echo.neighbours.wake_up();
        match orders.try_recv() {
            Ok(Order::End) => return,
            Ok(Order::Bury) => return lodging.take().unwrap().bury(),
            Ok(Order::Stall(until)) => until.recv().unwrap(),
            Err(_) => {}
        }
        if let Ok(mut moved_in) = door.try_recv() {
            poller.add(&moved_in.guest().unwrap().wakes(), 1).unwrap();
            echo.neighbours.announce(moved_in.guest().map(|guest| guest.id()));
            lodging = Some(moved_in);
        }
        let Some(guest) = lodging.as_mut().and_then(Lodging::guest) else { continue };
        while has_mail && let Some(mut parcel) = echo.neighbours.take_in() {
            for (from, to, datagram) in parcel.datagrams() {
                if to == echo.media {
                    echo.came.by_parcel.fetch_add(1, Ordering::Relaxed);
                    echo.hear(from, datagram);
                } else {
                    assert_eq!(guest.hand_over(from, to, datagram), Handed::Taken, "{to} is no relay of the guest's");
                }
            }
            echo.neighbours.give_back(parcel);
        }
        assert_eq!(guest.work(&mut echo), Stay::On);
        for (to, bytes, length) in echo.heard.drain(..) {
            let bytes = &bytes[..length];
            // What finds no room is lost: nobody answers by a socket.
            match guest.hand_over(echo.media, to, bytes) {
                Handed::Taken => {}
                Handed::For(other) => {
                    echo.neighbours.hand_over_to(other, echo.media, to, bytes);
                }
                Handed::No => panic!("{to} is nobody's relay"),
            }
        }
        guest.flush();
        echo.neighbours.post();
        echo.came.allocated.store(CountingAllocator::count(), Ordering::Relaxed);
    }
}

fn log_in(server: SocketAddr) -> TurnClient {
    TurnClient::log_in(server, "alice", "sesame").unwrap()
}

/// Channels to all media addresses, in their order, each of them answering.
fn caller(server: SocketAddr, media: &[SocketAddr]) -> TurnClient {
    let mut client = log_in(server);
    client.allocate().unwrap();
    for (number, at) in (CHANNEL..).zip(media) {
        client.bind(number, *at).unwrap();
        // Until the guests have moved in.
        client.socket().set_read_timeout(Some(SHORT)).unwrap();
        let tries = (0..50).position(|_| echoes(&client, number, b"hello")).unwrap();
        while tries > 0 && client.receive().is_ok() {}
        client.socket().set_read_timeout(Some(LONG)).unwrap();
    }
    client
}

fn echoes(client: &TurnClient, number: u16, word: &[u8]) -> bool {
    client.send(number, word).unwrap();
    client.receive().is_ok_and(|came| came == (number, word.to_ascii_uppercase()))
}

/// On whose thread a client's allocation lives: there its datagrams need no parcel.
fn home(client: &TurnClient, threads: &[EchoThread]) -> usize {
    let at_home = |at: &usize| {
        let before = threads[*at].came.from_guest.load(Ordering::Relaxed);
        assert!(echoes(client, CHANNEL + *at as u16, b"where"));
        threads[*at].came.from_guest.load(Ordering::Relaxed) > before
    };
    (0..threads.len()).find(at_home).unwrap()
}

/// A client whose allocation lives on a thread.
fn caller_on(thread: usize, server: SocketAddr, media: &[SocketAddr], threads: &[EchoThread]) -> TurnClient {
    (0..200).map(|_| caller(server, media)).find(|client| home(client, threads) == thread).unwrap()
}

/// So many threads, a server among them, and what is to happen.
async fn among<T: Send + 'static>(
    count: usize,
    options: &str,
    story: impl FnOnce(SocketAddr, &[SocketAddr], &mut Vec<EchoThread>) -> T + Send + 'static,
) -> (Server, HostThreads, Vec<EchoThread>, T) {
    let hosts = HostThreads::default();
    let sockets = sockets(count);
    let media = addresses(&sockets);
    let mut threads = start(&hosts, sockets);
    let (server, told) = Server::start_among(plan(&media, options), Some(hosts.clone())).await.unwrap();
    std::thread::spawn(move || told.iter().for_each(drop));
    let address = server.udp_addresses()[0];
    let told = tokio::task::spawn_blocking(move || {
        let told = story(address, &media, &mut threads);
        (threads, told)
    });
    let (threads, told) = told.await.unwrap();
    (server, hosts, threads, told)
}

async fn end(server: Server, threads: Vec<EchoThread>) {
    server.stop().await;
    drop(threads);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_packet_is_handed_over_whichever_threads_client_and_room_live_on() {
    for count in [2, 4] {
        let (server, _, threads, homes) = among(count, "", move |server, media, threads| {
            let callers: Vec<TurnClient> = (0..count).map(|at| caller_on(at, server, media, threads)).collect();
            let before: Vec<usize> = threads.iter().map(|thread| thread.came.all()).collect();
            let heard_before: usize = threads.iter().map(EchoThread::by_socket).sum();
            assert!(heard_before < 1_000, "while the guests moved in");
            for round in 0..50 {
                for client in &callers {
                    for at in 0..count {
                        let word = format!("round {round} to {at}");
                        assert!(echoes(client, CHANNEL + at as u16, word.as_bytes()), "{word}");
                    }
                }
            }
            for (thread, before) in threads.iter().zip(before) {
                assert_eq!((thread.came.all() - before, thread.by_socket()), (50 * count, 0));
                // All but the one who lives there.
                assert!(thread.came.by_parcel.load(Ordering::Relaxed) >= 50 * (count - 1));
            }
            callers.iter().map(|client| home(client, threads)).collect::<Vec<_>>()
        })
        .await;
        assert!(homes.into_iter().eq(0..count));
        end(server, threads).await;
    }
}

/// What the threads, their guests and the parcels between them allocate for packets that are handed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packet_that_is_handed_over_allocates_nothing_on_either_thread() {
    let (server, _, threads, ()) = among(2, "", |server, media, threads| {
        let callers = [caller_on(0, server, media, threads), caller_on(1, server, media, threads)];
        let talk = |rounds: usize| {
            for _ in 0..rounds {
                for client in &callers {
                    for at in 0..2 {
                        // Several of one round share a parcel; no more than there are parcels, so that none is lost.
                        (0..4).for_each(|_| client.send(CHANNEL + at, b"packet").unwrap());
                        (0..4).for_each(|_| assert_eq!(client.receive().unwrap().1, b"PACKET"));
                    }
                }
            }
        };
        let allocated = || threads.iter().map(|thread| thread.came.allocated.load(Ordering::Relaxed));
        talk(100);
        let (before, handed) = (allocated().collect::<Vec<_>>(), threads[1].came.by_parcel.load(Ordering::Relaxed));
        talk(300);
        // A parcel that was not needed before is two, and there are four of them.
        let more = allocated().zip(before).map(|(after, before)| after - before);
        assert!(more.clone().all(|more| more <= 9), "{:?}", more.collect::<Vec<_>>());
        assert!(threads[1].came.by_parcel.load(Ordering::Relaxed) - handed >= 300 * 4);
    })
    .await;
    end(server, threads).await;
}

/// A client by TCP: its task, the relaying thread, and back.
#[test]
fn a_packet_of_a_stream_allocates_nothing_once_its_buffers_are_made() {
    const ROUNDS: u64 = 1_000;
    let (hosts, sockets) = (HostThreads::default(), sockets(1));
    let media = addresses(&sockets);
    let threads = start(&hosts, sockets);
    let mut plan = plan(&media, "");
    (plan.tcp, plan.tls_only) = (vec!["127.0.0.1:0".parse().unwrap()], false);
    // One thread runs every task, and says what they have allocated.
    let (ask, mut asked) = tokio::sync::mpsc::channel::<std::sync::mpsc::SyncSender<u64>>(1);
    let (tell, told) = channel();
    let tasks = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (server, news) = Server::start_among(plan, Some(hosts)).await.unwrap();
            std::thread::spawn(move || news.iter().for_each(drop));
            tell.send(server.tcp_addresses()[0]).unwrap();
            while let Some(answer) = asked.recv().await {
                answer.send(CountingAllocator::count()).unwrap();
            }
            server.stop().await;
        });
    });
    let mut client = ByTcp::log_in(told.recv().unwrap());
    client.allocate();
    client.bind(CHANNEL, media[0]);
    let mut talk = |rounds: u64| {
        for round in 0..rounds {
            // One at a time, and several that come in one read and leave in one write.
            let count = round % 8 + 1;
            (0..count).for_each(|_| client.send(CHANNEL, &[b'a'; 172]));
            (0..count).for_each(|_| assert_eq!(client.receive(), [b'A'; 172]));
        }
    };
    let allocated = || {
        let (answer, counted) = std::sync::mpsc::sync_channel(1);
        ask.blocking_send(answer).unwrap();
        [counted.recv().unwrap(), threads[0].came.allocated.load(Ordering::Relaxed)]
    };
    talk(ROUNDS);
    allocated();
    let before = allocated();
    talk(ROUNDS);
    let [of_tasks, of_relay] = allocated();
    assert_eq!(of_relay - before[1], 0, "of the relaying thread");
    assert!(of_tasks - before[0] < ROUNDS / 50, "{} of the tasks", of_tasks - before[0]);
    drop(ask);
    tasks.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_of_one_client_to_another_thread_stay_in_order() {
    let (server, _, threads, ()) = among(2, "", |server, media, threads| {
        let client = caller_on(0, server, media, threads);
        for round in 0..150 {
            // No more than there are parcels, should each of them go by itself.
            let words = (0..4).map(|n| format!("{round} {n}").into_bytes());
            words.clone().for_each(|word| client.send(CHANNEL + 1, &word).unwrap());
            let came: Vec<Vec<u8>> = (0..4).map(|_| client.receive().unwrap().1).collect();
            assert!(words.eq(came));
        }
    })
    .await;
    end(server, threads).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_thread_that_stalls_has_no_room_for_takes_its_socket_and_room_comes_back() {
    let (server, _, threads, ()) = among(2, "", |server, media, threads| {
        let client = caller_on(0, server, media, threads);
        let before = threads[1].came.all();
        threads[1].by_socket();
        let (go_on, until) = channel();
        threads[1].tell(Order::Stall(until));
        for _ in 0..200 {
            client.send(CHANNEL + 1, b"wait").unwrap();
            // Behind it on the way: nothing is sent faster than it is relayed.
            assert!(echoes(&client, CHANNEL, b"mine"));
        }
        go_on.send(()).unwrap();
        let began = Instant::now();
        let (mut handed, mut by_socket) = (0, 0);
        while handed + by_socket < 200 && began.elapsed() < LONG {
            by_socket += threads[1].by_socket();
            handed = threads[1].came.all() - before;
        }
        assert!(handed > 0 && by_socket > 0 && handed + by_socket == 200, "{handed} and {by_socket}");
        (0..handed).for_each(|_| assert_eq!(client.receive().unwrap(), (CHANNEL + 1, b"WAIT".to_vec())));
        assert!((0..200).all(|_| echoes(&client, CHANNEL + 1, b"again")));
        assert_eq!(threads[1].by_socket(), 0);
    })
    .await;
    end(server, threads).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permissions_and_quotas_hold_for_what_is_handed_over() {
    let (server, _, threads, ()) = among(2, "user-quota=2\n", |server, media, threads| {
        let mut client = caller(server, media);
        // Beside the media ports their host is as closed as ever.
        for (number, closed) in [(CHANNEL + 8, "127.0.0.1:9"), (CHANNEL + 9, "127.0.0.2:9")] {
            let refused = client.bind(number, closed.parse().unwrap()).unwrap_err();
            assert!(refused.to_string().contains("403"), "{refused}");
            client.send(number, b"nevertheless").unwrap();
        }
        // A channel to one of them opens no other.
        let mut second = log_in(server);
        second.allocate().unwrap();
        second.bind(CHANNEL, media[0]).unwrap();
        let before = threads[1].came.all();
        second.send(CHANNEL + 1, b"not bound").unwrap();
        assert!(echoes(&second, CHANNEL, b"bound"));
        assert_eq!(threads[1].came.all(), before);
        // Of both threads together.
        for _ in 0..8 {
            let refused = log_in(server).allocate().unwrap_err();
            assert!(refused.to_string().contains("486"), "{refused}");
        }
        assert!((0..2).all(|at| echoes(&client, CHANNEL + at, b"still here")));
        client.refresh(0).unwrap();
        log_in(server).allocate().unwrap();
    })
    .await;
    end(server, threads).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bandwidth_holds_for_what_is_handed_over_in_both_directions() {
    let (server, _, threads, ()) = among(2, "max-bps=2000\n", |server, media, threads| {
        for (number, thread) in (CHANNEL..).zip(threads) {
            let client = caller(server, media);
            let before = thread.came.all();
            let began = Instant::now();
            // Up: 30 of 100 bytes; down: 20 for each that came.
            for _ in 0..30 {
                let mut datagram = [b'x'; 100];
                datagram[0] = b'*';
                client.send(number, &datagram).unwrap();
            }
            client.socket().set_read_timeout(Some(SHORT)).unwrap();
            let down = std::iter::from_fn(|| client.receive().ok()).count();
            let up = thread.came.all() - before;
            let most = 20 + began.elapsed().as_millis() as usize * 2_000 / 100 / 1_000 + 1;
            assert!((15..=most).contains(&up) && (15..=most).contains(&down), "{up} {down} of {most}");
        }
    })
    .await;
    end(server, threads).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_ends_with_parcels_under_way_takes_nobody_with_it() {
    let (server, hosts, threads, clients) = among(2, "", |server, media, threads| {
        let clients = [caller_on(0, server, media, threads), caller_on(1, server, media, threads)];
        let (go_on, until) = channel();
        threads[1].tell(Order::Stall(until));
        (0..20).for_each(|_| clients[0].send(CHANNEL + 1, b"too late").unwrap());
        assert!(echoes(&clients[0], CHANNEL, b"mine"));
        threads[1].tell(Order::End);
        go_on.send(()).unwrap();
        let EchoThread { thread, socket, .. } = threads.remove(1);
        thread.join().unwrap();
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        // Its address is reached as any other now, from both threads.
        while echoes(&clients[0], CHANNEL, b"mine") && clients[0].send(CHANNEL + 1, b"socket").is_ok() {
            let mut buffer = [0; 64];
            if socket.recv(&mut buffer).is_ok_and(|length| &buffer[..length] == b"socket") {
                break;
            }
        }
        clients[1].send(CHANNEL + 1, b"from home").unwrap();
        let mut buffer = [0; 64];
        assert!((0..40).any(|_| socket.recv(&mut buffer).is_ok_and(|n| &buffer[..n] == b"from home")));
        clients
    })
    .await;
    // Two others take their place.
    let first = threads.into_iter().next().unwrap().end(Order::End);
    let sockets = vec![first, sockets(1).remove(0)];
    let threads = start(&hosts, sockets);
    let told = tokio::task::spawn_blocking(move || {
        clients.iter().for_each(|client| client.socket().set_read_timeout(Some(SHORT)).unwrap());
        clients.iter().all(|client| (0..50).any(|_| echoes(client, CHANNEL, b"back")))
    });
    assert!(told.await.unwrap());
    end(server, threads).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_elsewhere_is_reached_as_ever_and_an_allocation_outlives_its_host() {
    let options = "allow-loopback-peers\n";
    let (server, hosts, threads, (client, elsewhere)) = among(1, options, |server, media, _| {
        let mut client = caller(server, media);
        let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
        elsewhere.set_read_timeout(Some(LONG)).unwrap();
        client.bind(CHANNEL + 1, elsewhere.local_addr().unwrap()).unwrap();
        assert!(crosses(&client, &elsewhere));
        (client, elsewhere)
    })
    .await;
    let socket = threads.into_iter().next().unwrap().end(Order::End);
    let told = tokio::task::spawn_blocking(move || {
        assert!(crosses(&client, &elsewhere), "the allocation is gone with its host");
        let second = start(&hosts, vec![socket]);
        client.socket().set_read_timeout(Some(SHORT)).unwrap();
        assert!((0..50).any(|_| echoes(&client, CHANNEL, b"hello")));
        assert!(crosses(&client, &elsewhere));
        second
    });
    let second = told.await.unwrap();
    // A guest that failed is missed.
    second.into_iter().for_each(|thread| drop(thread.end(Order::Bury)));
    tokio::time::timeout(LONG, server.lost()).await.expect("nobody noticed");
    server.stop().await;
}

fn crosses(client: &TurnClient, elsewhere: &UdpSocket) -> bool {
    client.send(CHANNEL + 1, b"over the wire").unwrap();
    let mut buffer = [0; 64];
    let (length, relay) = elsewhere.recv_from(&mut buffer).unwrap();
    elsewhere.send_to(&buffer[..length], relay).unwrap();
    client.receive().unwrap() == (CHANNEL + 1, b"over the wire".to_vec())
}
