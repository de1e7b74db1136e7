//! A relaying thread as the guest of another daemon's thread: what either sends to the other needs no socket, and the
//! allocations outlive their host.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use offhook_link::{Host, HostThread, HostThreads, Lodging, Stay};
use offhook_net::{Poller, Ready};
use offhook_testkit::TurnClient;
use offhook_turn::{Plan, Server};
use offhook_turn_core::MediaPeer;
use offhook_turn_core::conf::Reading;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Nothing is bound there: who answers from it was called, not sent to.
const MEDIA: &str = "127.0.0.1:9";
const CHANNEL: u16 = 0x4000;

fn plan() -> Plan {
    let mut reading = Reading::default();
    reading.add_file(
        "listening-ip=127.0.0.1\nlistening-port=0\ntls-listening-port=0\nrelay-ip=127.0.0.1\nrealm=r\n\
         lt-cred-mech\nuser=alice:sesame\nno-tcp\nno-tls\nno-dtls\nallow-loopback-peers\nmin-port=40000\nmax-port=48000\n",
    );
    let mut plan = Plan::of(&reading.conf).unwrap();
    let media = MEDIA.parse().unwrap();
    plan.udp = vec!["127.0.0.1:0".parse().unwrap()];
    plan.settings.policy.media = vec![MediaPeer { announced: media, local: media }];
    plan
}

/// What a thread that echoes does when it is told to.
enum Order {
    End,
    Bury,
}

/// Returns every datagram to where it came from, in capitals.
#[derive(Default)]
struct Echo(Vec<(SocketAddr, Vec<u8>)>);

impl Host for Echo {
    fn hand_over(&mut self, from: SocketAddr, to: SocketAddr, datagram: &mut [u8]) -> bool {
        if to != MEDIA.parse().unwrap() {
            return false;
        }
        datagram.make_ascii_uppercase();
        self.0.push((from, datagram.to_vec()));
        true
    }
}

struct EchoThread {
    orders: Sender<Order>,
    wake: offhook_net::Waker,
    thread: JoinHandle<()>,
}

impl EchoThread {
    fn start(hosts: &HostThreads) -> Self {
        let poller = Poller::new().unwrap();
        let (wake, door_bell) = (poller.waker(), poller.waker());
        let (host, door) = HostThread::open(move || door_bell.wake());
        let (orders, inbox) = channel();
        let thread = std::thread::spawn(move || live(poller, &door, &inbox));
        hosts.publish(vec![host]);
        Self { orders, wake, thread }
    }

    fn end(self, order: Order) {
        self.orders.send(order).unwrap();
        self.wake.wake();
        self.thread.join().unwrap();
    }
}

fn live(mut poller: Poller, door: &Receiver<Lodging>, orders: &Receiver<Order>) {
    let mut ready = Ready::default();
    let mut lodging: Option<Lodging> = None;
    let mut echo = Echo::default();
    loop {
        let due = lodging.as_mut().and_then(Lodging::guest).map(|guest| guest.due_in());
        poller.wait(due, &mut ready).unwrap();
        match orders.try_recv() {
            Ok(Order::End) => return,
            Ok(Order::Bury) => return lodging.take().unwrap().bury(),
            Err(_) => {}
        }
        if let Ok(mut moved_in) = door.try_recv() {
            poller.add(&moved_in.guest().unwrap().wakes(), 1).unwrap();
            lodging = Some(moved_in);
        }
        let Some(guest) = lodging.as_mut().and_then(Lodging::guest) else { continue };
        assert_eq!(guest.work(&mut echo), Stay::On);
        for (to, bytes) in echo.0.drain(..) {
            assert!(guest.hand_over(MEDIA.parse().unwrap(), to, &bytes), "{to} is no relay of the guest's");
        }
        guest.flush();
    }
}

fn channel_echoes(client: &TurnClient) -> bool {
    client.send(CHANNEL, b"hello").unwrap();
    client.receive().is_ok_and(|(number, bytes)| number == CHANNEL && bytes == b"HELLO")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hosts_datagrams_are_handed_over_and_an_allocation_outlives_its_host() {
    let hosts = HostThreads::default();
    let first = EchoThread::start(&hosts);
    let (server, _told) = Server::start_among(plan(), Some(hosts.clone())).await.unwrap();
    let address = server.udp_addresses()[0];
    let told = tokio::task::spawn_blocking(move || {
        let mut client = TurnClient::log_in(address, "alice", "sesame").unwrap();
        client.allocate().unwrap();
        client.bind(CHANNEL, MEDIA.parse().unwrap()).unwrap();
        assert!(channel_echoes(&client));
        // A peer elsewhere is reached as ever.
        let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
        elsewhere.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.bind(CHANNEL + 1, elsewhere.local_addr().unwrap()).unwrap();
        let crosses = |client: &TurnClient| {
            client.send(CHANNEL + 1, b"over the wire").unwrap();
            let mut buffer = [0; 64];
            let (length, relay) = elsewhere.recv_from(&mut buffer).unwrap();
            elsewhere.send_to(&buffer[..length], relay).unwrap();
            client.receive().unwrap() == (CHANNEL + 1, b"over the wire".to_vec())
        };
        assert!(crosses(&client));
        first.end(Order::End);
        assert!(crosses(&client), "the allocation is gone with its host");
        let second = EchoThread::start(&hosts);
        assert!((0..50).any(|_| {
            client.socket().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            channel_echoes(&client)
        }));
        assert!(crosses(&client));
        second
    });
    let second = told.await.unwrap();
    // A guest that failed is missed.
    second.end(Order::Bury);
    tokio::time::timeout(Duration::from_secs(5), server.lost()).await.expect("nobody noticed");
    server.stop().await;
}
