//! A batch of received datagrams in one preallocated arena.
use crate::address::RawAddress;
use crate::ffi::arrays::{self, Control, Headers};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

/// What the kernel says of one datagram.
#[derive(Clone, Copy)]
pub struct Slot {
    pub name: RawAddress,
    pub control: Control,
    pub length: usize,
    pub truncated: bool,
}

/// One datagram; `data` may be changed in place (decryption).
#[derive(Debug)]
pub struct Received<'a> {
    pub from: SocketAddr,
    /// The address it was sent to; only known for sockets bound to the wildcard.
    pub local: Option<IpAddr>,
    pub data: &'a mut [u8],
    /// Longer than the batch's datagrams: cut off, not to be trusted.
    pub truncated: bool,
}

pub struct ReceiveBatch {
    headers: Headers,
    storage: Box<[u8]>,
    size: usize,
    slots: Box<[Slot]>,
    count: usize,
}

impl ReceiveBatch {
    /// Room for `capacity` datagrams of `size` bytes.
    pub fn new(capacity: usize, size: usize) -> Self {
        let slot = Slot { name: RawAddress::EMPTY, control: Control::EMPTY, length: 0, truncated: false };
        Self {
            headers: Headers::new(capacity),
            storage: vec![0; capacity * size].into(),
            size,
            slots: vec![slot; capacity].into(),
            count: 0,
        }
    }

    pub const fn capacity(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn fill(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        self.count = 0;
        self.count = arrays::receive(fd, &mut self.headers, &mut self.storage, self.size, &mut self.slots)?;
        Ok(self.count)
    }

    /// The datagrams of the last receive, in order of arrival.
    pub fn datagrams(&mut self) -> impl Iterator<Item = Received<'_>> {
        self.storage.chunks_exact_mut(self.size).zip(self.slots.iter()).take(self.count).filter_map(|(bytes, slot)| {
            Some(Received {
                from: slot.name.get()?,
                local: slot.control.local(),
                data: bytes.get_mut(..slot.length)?,
                truncated: slot.truncated,
            })
        })
    }
}
