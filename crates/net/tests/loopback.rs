//! Batches over real loopback sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use offhook_net::{Datagram, Poller, Ready, ReceiveBatch, SendBatch, UdpOptions, UdpSocket};
use std::net::SocketAddr;
use std::time::Duration;

fn bind(text: &str) -> UdpSocket {
    UdpSocket::bind(text.parse().unwrap(), UdpOptions::default()).unwrap()
}

fn receive_all(socket: &UdpSocket, expected: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut poller = Poller::new().unwrap();
    poller.add(socket, 0).unwrap();
    let mut ready = Ready::default();
    let mut batch = ReceiveBatch::new(16, 1500);
    let mut all = Vec::new();
    while all.len() < expected {
        poller.wait(Some(Duration::from_secs(5)), &mut ready).unwrap();
        assert!(!ready.tokens().is_empty(), "only {} of {expected} arrived", all.len());
        socket.receive(&mut batch).unwrap();
        all.extend(batch.datagrams().map(|d| {
            assert!(!d.truncated);
            (d.from, d.data.to_vec())
        }));
    }
    all
}

fn to<'a>(socket: &UdpSocket, flow: u32, bytes: &'a [u8]) -> Datagram<'a> {
    Datagram { to: socket.local_address(), from: None, flow, bytes }
}

#[test]
fn more_datagrams_than_a_batch_holds_arrive_in_order_in_both_families() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (a, b) = (bind(address), bind(address));
        let payloads: Vec<Vec<u8>> =
            (0..300_u32).map(|i| [&i.to_be_bytes()[..], &vec![7; i as usize]].concat()).collect();
        let mut batch = SendBatch::new(64);
        let sent = a.send(&mut batch, payloads.iter().map(|p| to(&b, 1, p)));
        assert_eq!((sent.datagrams, sent.refused), (300, 0));
        let got = receive_all(&b, 300);
        assert!(got.iter().all(|(from, _)| *from == a.local_address()));
        assert!(got.iter().map(|(_, bytes)| bytes).eq(payloads.iter()));
    }
}

#[test]
fn interleaved_datagrams_of_one_size_leave_as_one_send_per_destination() {
    let sender = bind("127.0.0.1:0");
    let receivers: Vec<UdpSocket> = (0..3).map(|_| bind("127.0.0.1:0")).collect();
    let payloads: Vec<[u8; 172]> = (0..30).map(|i| [i; 172]).collect();
    let datagrams = payloads.iter().enumerate().map(|(i, p)| to(&receivers[i % 3], (i % 3) as u32, p));
    let sent = sender.send(&mut SendBatch::new(256), datagrams);
    assert_eq!((sent.datagrams, sent.system_calls), (30, 1));
    for (index, receiver) in receivers.iter().enumerate() {
        let got = receive_all(receiver, 10);
        let first: Vec<u8> = got.iter().map(|(_, bytes)| bytes[0]).collect();
        assert_eq!(first, (0..10).map(|i| (i * 3 + index) as u8).collect::<Vec<_>>());
        assert!(got.iter().all(|(_, bytes)| bytes.len() == 172));
    }
}

#[test]
fn a_shorter_datagram_ends_its_run_and_a_longer_one_begins_another() {
    let (a, b) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    let lengths = [100, 100, 60, 100, 160, 160, 10, 10];
    let payloads: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(i, n)| vec![i as u8; *n]).collect();
    let sent = a.send(&mut SendBatch::new(256), payloads.iter().map(|p| to(&b, 9, p)));
    assert_eq!(sent.datagrams, 8);
    assert!(receive_all(&b, 8).iter().map(|(_, bytes)| bytes).eq(payloads.iter()));
}

#[test]
fn one_refused_destination_does_not_hold_up_the_others() {
    let (a, b) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    // A loopback-bound socket has no route to a public address.
    let lost = Datagram { to: "192.0.2.1:9".parse().unwrap(), from: None, flow: 2, bytes: b"lost" };
    let batch = [to(&b, 1, b"one"), lost, to(&b, 1, b"two!"), lost, to(&b, 3, b"three")];
    let sent = a.send(&mut SendBatch::new(256), batch.into_iter());
    assert_eq!((sent.datagrams, sent.refused), (3, 2));
    let got: Vec<Vec<u8>> = receive_all(&b, 3).into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(got, [b"one".to_vec(), b"two!".to_vec(), b"three".to_vec()]);
}

#[test]
fn a_wildcard_socket_answers_from_the_address_that_was_asked() {
    let server = bind("0.0.0.0:0");
    let client = bind("127.0.0.1:0");
    let there: SocketAddr = format!("127.0.0.7:{}", server.local_address().port()).parse().unwrap();
    client.send(&mut SendBatch::new(4), [Datagram { to: there, from: None, flow: 0, bytes: b"ping" }].into_iter());
    let mut poller = Poller::new().unwrap();
    poller.add(&server, 0).unwrap();
    poller.wait(Some(Duration::from_secs(5)), &mut Ready::default()).unwrap();
    let mut batch = ReceiveBatch::new(4, 1500);
    assert_eq!(server.receive(&mut batch).unwrap(), 1);
    let (from, local) = batch.datagrams().map(|d| (d.from, d.local)).next().unwrap();
    assert_eq!(local, Some(there.ip()));
    server.send(&mut SendBatch::new(4), [Datagram { to: from, from: local, flow: 0, bytes: b"pong" }].into_iter());
    assert_eq!(receive_all(&client, 1), [(there, b"pong".to_vec())]);
}

#[test]
fn a_datagram_longer_than_the_batch_allows_is_marked() {
    let (a, b) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    a.send(&mut SendBatch::new(4), [to(&b, 0, &[1; 600])].into_iter());
    let mut poller = Poller::new().unwrap();
    poller.add(&b, 0).unwrap();
    poller.wait(Some(Duration::from_secs(5)), &mut Ready::default()).unwrap();
    let mut batch = ReceiveBatch::new(4, 512);
    b.receive(&mut batch).unwrap();
    let seen: Vec<(usize, bool)> = batch.datagrams().map(|d| (d.data.len(), d.truncated)).collect();
    assert_eq!(seen, [(512, true)]);
}

#[test]
fn two_speakers_packets_to_hundreds_of_listeners_leave_in_pairs() {
    let sender = bind("127.0.0.1:0");
    let receivers: Vec<UdpSocket> = (0..300).map(|_| bind("127.0.0.1:0")).collect();
    let payloads = [[1; 196], [2; 196]];
    let each = payloads.iter().flat_map(|p| receivers.iter().zip(0..).map(move |(r, flow)| to(r, flow, p)));
    let sent = sender.send(&mut SendBatch::new(1_024), each);
    assert_eq!((sent.datagrams, sent.refused, sent.system_calls), (600, 0, 1));
    for receiver in &receivers {
        let got: Vec<u8> = receive_all(receiver, 2).iter().map(|(_, bytes)| bytes[0]).collect();
        assert_eq!(got, [1, 2]);
    }
}

#[test]
fn a_datagram_lies_behind_its_head_room_and_the_room_can_be_sent_with_it() {
    let (a, b) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    a.send(&mut SendBatch::new(1), [to(&b, 1, b"payload")].into_iter());
    let mut poller = Poller::new().unwrap();
    poller.add(&b, 0).unwrap();
    poller.wait(Some(Duration::from_secs(5)), &mut Ready::default()).unwrap();
    let mut batch = ReceiveBatch::with_room(4, 100, 4, 3);
    assert_eq!(b.receive(&mut batch).unwrap(), 1);
    let framed = batch.framed().next().unwrap();
    assert_eq!(
        (framed.payload.clone(), &framed.frame[framed.payload.clone()], framed.frame.len()),
        (4..11, &b"payload"[..], 107)
    );
    framed.frame[..4].copy_from_slice(b"head");
    b.send(&mut SendBatch::new(1), [to(&a, 1, &framed.frame[..framed.payload.end])].into_iter());
    assert_eq!(receive_all(&a, 1)[0].1, b"headpayload");
}

#[test]
fn two_sockets_share_a_port_when_both_ask_for_it() {
    let shared = UdpOptions { reuse_port: true, ..UdpOptions::default() };
    let first = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), shared).unwrap();
    assert!(UdpSocket::bind(first.local_address(), shared).is_ok());
    assert!(UdpSocket::bind(first.local_address(), UdpOptions::default()).is_err());
}

#[test]
fn a_closed_port_is_told_to_the_socket_that_keeps_errors() {
    let keeping = UdpOptions { keep_errors: true, ..UdpOptions::default() };
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let socket = UdpSocket::bind(address.parse().unwrap(), keeping).unwrap();
        let closed = bind(address).local_address();
        let mut poller = Poller::new().unwrap();
        poller.add(&socket, 3).unwrap();
        let datagram = Datagram { to: closed, from: None, flow: 0, bytes: b"x" };
        socket.send(&mut SendBatch::new(1), [datagram].into_iter());
        let mut ready = Ready::default();
        poller.wait(Some(Duration::from_secs(5)), &mut ready).unwrap();
        assert!(ready.tokens() == [3] && ready.has_error(0) && !ready.has_error(1));
        let error = socket.take_error().unwrap();
        // Destination unreachable, port unreachable.
        let expected = if closed.is_ipv4() { (3, 3) } else { (1, 4) };
        assert_eq!((error.peer, (error.kind, error.code)), (closed, expected));
        assert_eq!(socket.take_error(), None);
        socket.set_dont_fragment(true).unwrap();
        socket.set_dont_fragment(false).unwrap();
    }
}

#[test]
fn several_sockets_datagrams_lie_in_one_batch_in_the_order_they_were_taken() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (sender, sockets) = (bind(address), [bind(address), bind(address), bind(address)]);
        for (index, socket) in sockets.iter().enumerate() {
            for number in 0..3 {
                sender.send_one(socket.local_address(), &[index as u8, number]).unwrap();
            }
        }
        let mut batch = ReceiveBatch::with_room(5, 64, 4, 2);
        batch.clear();
        assert_eq!(sockets[0].receive_more(&mut batch, 1).unwrap(), 1);
        assert_eq!(sockets[1].receive_more(&mut batch, 2).unwrap(), 2);
        assert_eq!(sockets[2].receive_more(&mut batch, 9).unwrap(), 2);
        assert_eq!((batch.room(), sockets[0].receive_more(&mut batch, 1).unwrap()), (0, 0));
        let seen: Vec<Vec<u8>> = (0..5)
            .map(|place| {
                let framed = batch.framed_at(place).unwrap();
                assert_eq!((framed.from, framed.payload.clone()), (sender.local_address(), 4..6));
                batch.part(place, 0..2).unwrap().to_vec()
            })
            .collect();
        assert_eq!(seen, [[0, 0], [1, 0], [1, 1], [2, 0], [2, 1]]);
        assert!(batch.framed_at(5).is_none());
    }
}

#[test]
fn a_single_datagram_that_is_too_long_is_marked() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    sender.send_one(receiver.local_address(), &[1; 65]).unwrap();
    let mut batch = ReceiveBatch::new(2, 64);
    assert_eq!(receiver.receive_more(&mut batch, 1).unwrap(), 1);
    assert!(batch.framed_at(0).unwrap().truncated);
    assert_eq!(receiver.receive_more(&mut batch, 1).unwrap(), 0);
}
