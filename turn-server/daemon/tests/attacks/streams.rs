//! Connections that mean no good: slow, silent, of another protocol, or very many.
use crate::rig::{Daemon, Ends, eventually};
use offhook_wire_stun::{Class, Message, MessageBuilder, Method, TransactionId, credentials};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A server's patience with whoever has not said a whole first message, and some for a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(6);

fn message(class: Class, method: Method, id: u8, write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
    let mut buffer = vec![0; 1_024];
    let mut builder = MessageBuilder::new(&mut buffer, class, method, TransactionId([id; 12]));
    write(&mut builder);
    let length = builder.finish().unwrap();
    buffer.truncate(length);
    buffer
}

fn binding() -> Vec<u8> {
    message(Class::Request, Method::BINDING, 1, |_| {})
}

/// How a server ended a connection: what it said first, and when.
fn ending(stream: &mut TcpStream, within: Duration) -> Option<(Vec<u8>, Duration)> {
    let begin = Instant::now();
    let mut said = Vec::new();
    let mut buffer = [0; 4_096];
    while begin.elapsed() < within {
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        match stream.read(&mut buffer) {
            Ok(0) => return Some((said, begin.elapsed())),
            Ok(length) => said.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return Some((said, begin.elapsed())),
        }
    }
    None
}

/// A client by TCP with an allocation.
fn allocated(server: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let ask = message(Class::Request, Method::ALLOCATE, 2, |b| {
        b.requested_transport(17);
    });
    let challenge = exchange(&mut stream, &ask);
    let nonce = Message::parse(&challenge).unwrap().nonce().unwrap().unwrap().to_owned();
    let key = credentials::long_term_key("alice", "example.org", "sesame");
    let allocate = message(Class::Request, Method::ALLOCATE, 3, |b| {
        b.requested_transport(17).username("alice").realm("example.org").nonce(&nonce).integrity(&key);
    });
    let answer = exchange(&mut stream, &allocate);
    assert_eq!(Message::parse(&answer).unwrap().class(), Class::Success);
    stream
}

fn exchange(stream: &mut TcpStream, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).unwrap();
    let mut answer = vec![0; 20];
    stream.read_exact(&mut answer).unwrap();
    let length = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
    answer.resize(20 + length, 0);
    stream.read_exact(&mut answer[20..]).unwrap();
    answer
}

#[test]
fn whoever_takes_his_time_is_closed_in_time_and_is_told_nothing() {
    let daemon = Daemon::open("");
    let idle = daemon.descriptors();
    let server = daemon.at();
    let mut session = allocated(server);
    // What each begins with, and what it goes on with, a byte each half second.
    let mut long_message = binding();
    long_message[2..4].copy_from_slice(&[0xFF, 0xFC]);
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3][..], &[7; 400]].concat();
    let slow: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        ("says nothing", Vec::new(), Vec::new()),
        ("spells a Binding", Vec::new(), binding()),
        ("announces 64 KiB", long_message, vec![0; 100]),
        ("spells a TLS handshake", Vec::new(), hello.clone()),
        ("stops within a TLS handshake", hello[..40].to_vec(), Vec::new()),
        ("stops within a Binding", binding()[..19].to_vec(), Vec::new()),
    ];
    std::thread::scope(|scope| {
        for (what, begins, goes_on) in slow {
            scope.spawn(move || {
                let begin = Instant::now();
                let mut stream = TcpStream::connect(server).unwrap();
                stream.write_all(&begins).unwrap();
                let mut said = Vec::new();
                for byte in goes_on.iter().take(16) {
                    if stream.write_all(&[*byte]).is_err() {
                        break;
                    }
                    if let Some((more, _)) = ending(&mut stream, Duration::from_millis(500)) {
                        said.extend(more);
                        break;
                    }
                }
                let rest = (PATIENCE + SLACK).saturating_sub(begin.elapsed());
                let (more, _) = ending(&mut stream, rest).unwrap_or_else(|| panic!("{what}: still open"));
                said.extend(more);
                // A TLS server may say that it gave up; nothing of what came is sent back.
                assert!(said.is_empty() || said[0] == 0x15, "{what}: {said:02x?}");
            });
        }
    });
    assert!(
        eventually(Duration::from_secs(3), || daemon.descriptors() <= idle + 2),
        "{} of {idle}",
        daemon.descriptors()
    );
    // Who has logged in may be silent.
    assert_eq!(Message::parse(&exchange(&mut session, &binding())).unwrap().class(), Class::Success);
}

#[test]
fn other_protocols_and_torn_frames_are_closed_without_an_echo() {
    let daemon = Daemon::open("");
    let mut odd_length = binding();
    odd_length[3] = 3;
    let mut no_cookie = binding();
    no_cookie[4] = 0;
    let after = |wrong: &[u8]| [&binding()[..], wrong].concat();
    let wrong: Vec<(&str, Vec<u8>, usize)> = vec![
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 0),
        ("SIP", b"OPTIONS sip:x SIP/2.0\r\n\r\n".to_vec(), 0),
        ("SSH", b"SSH-2.0-x\r\n".to_vec(), 0),
        ("PROXY", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(), 0),
        ("ChannelData first", vec![0x40, 0, 0, 4, 1, 2, 3, 4], 0),
        ("no padding", odd_length.clone(), 0),
        ("no cookie", no_cookie.clone(), 0),
        ("SSL 2", vec![0x80, 0x2E, 1, 3, 1, 0, 0, 0, 0, 0], 0),
        // One Binding is answered, and what follows it is not.
        ("no padding later", after(&odd_length), 32),
        ("no cookie later", after(&no_cookie), 32),
        ("noise later", after(&[0xFF; 40]), 32),
    ];
    for (what, bytes, expected) in wrong {
        let mut stream = TcpStream::connect(daemon.at()).unwrap();
        stream.write_all(&bytes).unwrap();
        let (said, _) = ending(&mut stream, Duration::from_secs(5)).unwrap_or_else(|| panic!("{what}: still open"));
        // The connection may be torn down before the answer to what came first has left.
        assert!(said.len() == expected || said.is_empty(), "{what}: {said:02x?}");
    }
    // The longest frame that can be, to a channel that nobody bound: dropped, and the connection goes on.
    let mut stream = TcpStream::connect(daemon.at()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    exchange(&mut stream, &binding());
    let mut longest = vec![0; 4 + 65_536];
    longest[..4].copy_from_slice(&[0x40, 0, 0xFF, 0xFF]);
    for _ in 0..20 {
        stream.write_all(&longest).unwrap();
    }
    assert_eq!(Message::parse(&exchange(&mut stream, &binding())).unwrap().class(), Class::Success);
}

#[test]
fn one_address_cannot_take_all_the_connections() {
    let daemon = Daemon::open("");
    let idle = daemon.descriptors();
    let from = |ip: Ipv4Addr| {
        let socket = socket2(ip);
        socket.connect(&daemon.at().into()).unwrap();
        TcpStream::from(socket)
    };
    let crowd: Vec<TcpStream> = (0..700).map(|_| from(Ipv4Addr::new(127, 0, 0, 5))).collect();
    assert!(eventually(Duration::from_secs(5), || daemon.descriptors() <= idle + 256 + 2), "{}", daemon.descriptors());
    // Somebody else is served, and so are many who log in behind one address.
    let sessions: Vec<TcpStream> = (0..300).map(|_| allocated(daemon.at())).collect();
    let allocations = || daemon.allocations("TCP");
    assert!(eventually(Duration::from_secs(5), || allocations() == 300));
    drop(crowd);
    assert!(eventually(Duration::from_secs(5), || daemon.descriptors() <= idle + 2 * sessions.len() + 2));
    drop(sessions);
    assert!(
        eventually(Duration::from_secs(5), || daemon.descriptors() <= idle + 1),
        "{} of {idle}",
        daemon.descriptors()
    );
    assert!(eventually(Duration::from_secs(5), || allocations() == 0));
}

/// A socket that is bound before it connects.
fn socket2(ip: Ipv4Addr) -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
    socket
}

/// Somebody sends requests by TCP as fast as the loopback takes them; a call by UDP goes on.
#[test]
fn a_stream_that_floods_does_not_keep_datagrams_waiting() {
    use offhook_testkit::TurnClient;
    use std::net::UdpSocket;
    use std::sync::atomic::{AtomicBool, Ordering};
    // One thread, so that both meet there.
    let daemon = Daemon::open("relay-threads=1\n");
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut client = TurnClient::log_in(daemon.at(), "alice", "sesame").unwrap();
    client.allocate().unwrap();
    client.bind(0x4000, peer.local_addr().unwrap()).unwrap();
    let (server, end) = (daemon.at(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(server).unwrap();
                stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
                let many = binding().repeat(3_000);
                let mut sink = stream.try_clone().unwrap();
                sink.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
                let mut buffer = vec![0; 1 << 16];
                while !end.load(Ordering::Relaxed) {
                    let _ = stream.write(&many);
                    let _ = sink.read(&mut buffer);
                }
            });
        }
        let ends = Ends(&end);
        let begin = Instant::now();
        let mut buffer = [0; 256];
        let mut worst = Duration::ZERO;
        while begin.elapsed() < Duration::from_secs(3) {
            let sent = Instant::now();
            client.send(0x4000, &[1; 172]).unwrap();
            peer.recv_from(&mut buffer).unwrap();
            worst = worst.max(sent.elapsed());
        }
        drop(ends);
        println!("the longest wait was {worst:?}");
        assert!(worst < Duration::from_millis(500), "{worst:?}");
    });
}
