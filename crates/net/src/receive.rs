//! A batch of received datagrams in one preallocated arena.
use crate::address::RawAddress;
use crate::ffi::arrays::{self, Control, Headers};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
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

/// The same with the free bytes around it: the datagram lies at `payload` in `frame`.
#[derive(Debug)]
pub struct Framed<'a> {
    pub from: SocketAddr,
    pub local: Option<IpAddr>,
    pub frame: &'a mut [u8],
    pub payload: Range<usize>,
    pub truncated: bool,
}

/// How datagrams lie in the arena: room in front, at most `size` bytes, room behind.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub head: usize,
    pub size: usize,
    pub tail: usize,
}

impl Shape {
    pub const fn stride(self) -> usize {
        self.head + self.size + self.tail
    }

    pub const fn payload(self, length: usize) -> Range<usize> {
        self.head..self.head + length
    }
}

pub struct ReceiveBatch {
    headers: Headers,
    storage: Box<[u8]>,
    shape: Shape,
    slots: Box<[Slot]>,
    count: usize,
}

impl ReceiveBatch {
    /// Room for `capacity` datagrams of `size` bytes.
    pub fn new(capacity: usize, size: usize) -> Self {
        Self::with_room(capacity, size, 0, 0)
    }

    /// The same with free bytes in front of and behind each datagram, for headers written in place.
    pub fn with_room(capacity: usize, size: usize, head: usize, tail: usize) -> Self {
        let shape = Shape { head, size: size.max(1), tail };
        let slot = Slot { name: RawAddress::EMPTY, control: Control::EMPTY, length: 0, truncated: false };
        Self {
            headers: Headers::new(capacity),
            storage: vec![0; capacity * shape.stride()].into(),
            shape,
            slots: vec![slot; capacity].into(),
            count: 0,
        }
    }

    pub const fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Places that [`crate::UdpSocket::receive_more`] can still fill.
    pub const fn room(&self) -> usize {
        self.slots.len() - self.count
    }

    /// Forgets what was received.
    pub const fn clear(&mut self) {
        self.count = 0;
    }

    /// The datagram at a place, counted from the last [`Self::clear`].
    pub fn framed_at(&mut self, place: usize) -> Option<Framed<'_>> {
        let slot = self.slots.get(..self.count)?.get(place)?;
        let stride = self.shape.stride();
        Some(Framed {
            from: slot.name.get()?,
            local: slot.control.local(),
            frame: self.storage.get_mut(place * stride..(place + 1) * stride)?,
            payload: self.shape.payload(slot.length),
            truncated: slot.truncated,
        })
    }

    /// A range of the datagram at a place.
    pub fn part(&self, place: usize, range: Range<usize>) -> Option<&[u8]> {
        let start = place * self.shape.stride() + self.shape.head;
        self.storage.get(start..start + self.shape.size)?.get(range)
    }

    /// Adds up to `limit` datagrams behind those already there.
    pub(crate) fn fill(&mut self, fd: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        let places = self.count..(self.count + limit).min(self.slots.len());
        let Some(slots) = self.slots.get_mut(places.clone()) else { return Ok(0) };
        let storage = self.storage.get_mut(places.start * self.shape.stride()..).unwrap_or_default();
        let count = arrays::receive(fd, &mut self.headers, storage, self.shape, slots)?;
        self.count += count;
        Ok(count)
    }

    /// Adds one datagram, whose local address is not told: half the price of a batch of one.
    pub(crate) fn fill_one(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let stride = self.shape.stride();
        let frame = self.storage.get_mut(self.count * stride..(self.count + 1) * stride);
        let piece = frame.and_then(|frame| frame.get_mut(self.shape.payload(self.shape.size)));
        let (Some(slot), Some(piece)) = (self.slots.get_mut(self.count), piece) else { return Ok(0) };
        let count = usize::from(arrays::receive_one(fd, slot, piece)?);
        self.count += count;
        Ok(count)
    }

    /// The datagrams of the last receive, in order of arrival.
    pub fn datagrams(&mut self) -> impl Iterator<Item = Received<'_>> {
        self.framed().filter_map(|framed| {
            Some(Received {
                from: framed.from,
                local: framed.local,
                data: framed.frame.get_mut(framed.payload)?,
                truncated: framed.truncated,
            })
        })
    }

    /// The same with the room around them. What an earlier user wrote there is still there.
    pub fn framed(&mut self) -> impl Iterator<Item = Framed<'_>> {
        let shape = self.shape;
        self.storage.chunks_exact_mut(shape.stride()).zip(self.slots.iter()).take(self.count).filter_map(
            move |(frame, slot)| {
                Some(Framed {
                    from: slot.name.get()?,
                    local: slot.control.local(),
                    frame,
                    payload: shape.payload(slot.length),
                    truncated: slot.truncated,
                })
            },
        )
    }
}
