//! TURN clients over TCP: the same messages, one behind the other (RFC 8656 §12.5).
use super::caller::{Asking, REQUEST_MAX, Want};
use anyhow::{Context, ensure};
use offhook_turn_core::stream::{Framed, next_message};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 64 << 10;

/// One connection; messages may come in pieces.
pub struct Stream {
    socket: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Stream {
    /// Connects, allocates and binds its channel to a peer; the relayed address.
    pub fn allocate(
        server: SocketAddr,
        number: u16,
        key: &[u8],
        peer: SocketAddr,
    ) -> anyhow::Result<(Self, SocketAddr)> {
        let socket = TcpStream::connect_timeout(&server, PATIENCE).context("a connection to the server")?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut stream = Self { socket, buffer: vec![0; READ_BYTES], filled: 0 };
        let mut asking = Asking::default();
        for want in [Want::Allocate, Want::Bind(peer)] {
            stream.ask(&mut asking, want, number, key)?;
        }
        stream.socket.set_nonblocking(true)?;
        Ok((stream, asking.relayed.context("a relayed address")?))
    }

    fn ask(&mut self, asking: &mut Asking, want: Want, number: u16, key: &[u8]) -> anyhow::Result<()> {
        let mut request = [0; REQUEST_MAX];
        loop {
            let length = asking.ask(want, number, key, &mut request)?;
            self.socket.write_all(&request[..length])?;
            let mut is_done = None;
            while is_done.is_none() {
                self.fill().context("no answer by the connection")?;
                self.each(|message| {
                    is_done = Some(asking.hear(want, message)?);
                    Ok(())
                })?;
            }
            if is_done == Some(true) {
                return Ok(());
            }
        }
    }

    /// A whole message, padded.
    pub fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        ensure!(message.len().is_multiple_of(4), "messages of streams are padded");
        let sent = self.socket.write(message).context("the connection's buffer is full, or it is closed")?;
        ensure!(sent == message.len(), "a message went half into the connection's buffer");
        Ok(())
    }

    /// Reads what is there and shows each whole message; returns how many.
    pub fn receive(&mut self, took: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<usize> {
        match self.fill() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error).context("the connection"),
            _ => self.each(took),
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let read = self.socket.read(&mut self.buffer[self.filled..])?;
        self.filled += read;
        if read > 0 { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    fn each(&mut self, mut took: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<usize> {
        let (mut at, mut count) = (0, 0);
        loop {
            match next_message(&self.buffer[at..self.filled], false) {
                Framed::Message { length, next } => {
                    took(&self.buffer[at..at + length])?;
                    at += next;
                    count += 1;
                }
                Framed::Incomplete => break,
                Framed::Broken => anyhow::bail!("the stream carries something else than messages"),
            }
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(count)
    }
}
