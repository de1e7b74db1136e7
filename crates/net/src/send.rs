//! A batch of datagrams to send. Equal-size runs to one destination leave as one segmented send.
#![allow(unsafe_code)]
use crate::address::RawAddress;
use crate::ffi::arrays::{Control, Headers};
use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

/// One datagram to send.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    pub to: SocketAddr,
    /// The address to send from; `None` leaves it to the bound socket.
    pub from: Option<IpAddr>,
    /// Equal for equal destinations, else arbitrary: finds runs to one destination without hashing addresses.
    pub flow: u32,
    pub bytes: &'a [u8],
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    pub datagrams: usize,
    /// The kernel had no room or no route: lost, as on any network.
    pub refused: usize,
    pub system_calls: usize,
}

/// What one segmented send may carry: `UDP_MAX_SEGMENTS`, and the IPv4 length less headers.
const SEGMENTS_MAX: u16 = 64;
const RUN_BYTES_MAX: usize = 65_000;
/// Most datagrams considered at once: several speakers' packets to hundreds of listeners. `sendmmsg` takes no more.
const WINDOW: usize = 1_024;
const SMALL: usize = 64;
/// Flows remembered while runs are found; a power of two.
const FLOWS: usize = 2_048;
const NONE: u16 = u16::MAX;

/// Datagrams for one destination that leave together: all of one size, only the last may be shorter.
#[derive(Clone, Copy)]
struct Run {
    to: SocketAddr,
    from: Option<IpAddr>,
    first: u16,
    last: u16,
    segments: u16,
    segment_bytes: u16,
    bytes: usize,
    open: bool,
}

pub struct SendBatch {
    headers: Headers,
    names: Box<[RawAddress]>,
    controls: Box<[Control]>,
    runs: Vec<Run>,
    /// The next datagram of the same run.
    next: Box<[u16]>,
    /// Per flow: the newest run, valid when the generation matches.
    flows: Box<[(u32, u16)]>,
    generation: u32,
    capacity: usize,
}

impl SendBatch {
    /// `capacity`: datagrams per system call, and the window in which runs are found.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, WINDOW);
        Self {
            headers: Headers::new(capacity),
            names: vec![RawAddress::EMPTY; capacity].into(),
            controls: vec![Control::EMPTY; capacity].into(),
            runs: Vec::with_capacity(capacity),
            next: vec![NONE; capacity].into(),
            flows: vec![(0, 0); FLOWS].into(),
            generation: 0,
            capacity,
        }
    }

    pub(crate) fn send_all<'a>(
        &mut self,
        fd: BorrowedFd<'_>,
        segmentation: &Cell<bool>,
        datagrams: impl Iterator<Item = Datagram<'a>>,
    ) -> Sent {
        // Few datagrams are the usual case, and need not clear a large window first.
        match datagrams.size_hint().1 {
            Some(0) => Sent::default(),
            Some(most) if most <= SMALL => self.send_windows::<SMALL>(fd, segmentation, datagrams),
            _ => self.send_windows::<WINDOW>(fd, segmentation, datagrams),
        }
    }

    /// The window of pieces lives on the stack of this call, so that each piece stays borrowed while it is sent.
    fn send_windows<'a, const SIZE: usize>(
        &mut self,
        fd: BorrowedFd<'_>,
        segmentation: &Cell<bool>,
        mut datagrams: impl Iterator<Item = Datagram<'a>>,
    ) -> Sent {
        let mut sent = Sent::default();
        let mut pieces: [&[u8]; SIZE] = [&[]; SIZE];
        loop {
            let mut count = 0;
            self.restart();
            for (place, datagram) in pieces.iter_mut().take(self.capacity).zip(&mut datagrams) {
                *place = datagram.bytes;
                self.join_run(count, &datagram, segmentation.get());
                count += 1;
            }
            if count == 0 {
                return sent;
            }
            self.send_window(fd, segmentation, &pieces, &mut sent);
        }
    }

    fn restart(&mut self) {
        self.runs.clear();
        self.generation = self.generation.wrapping_add(1);
        if self.generation == 0 {
            self.flows.fill((0, 0));
            self.generation = 1;
        }
    }

    fn join_run(&mut self, index: u16, datagram: &Datagram<'_>, segmentation: bool) {
        let length = datagram.bytes.len();
        if let Some(next) = self.next.get_mut(usize::from(index)) {
            *next = NONE;
        }
        let Some(flow) = self.flows.get_mut(datagram.flow as usize & (FLOWS - 1)) else { return };
        if segmentation
            && flow.0 == self.generation
            && let Some(run) = self.runs.get_mut(usize::from(flow.1))
            && run.open
            && run.to == datagram.to
            && run.from == datagram.from
            && length <= usize::from(run.segment_bytes)
            && run.segments < SEGMENTS_MAX
            && run.bytes + length <= RUN_BYTES_MAX
        {
            if let Some(next) = self.next.get_mut(usize::from(run.last)) {
                *next = index;
            }
            run.last = index;
            run.segments += 1;
            run.bytes += length;
            run.open = length == usize::from(run.segment_bytes);
            return;
        }
        *flow = (self.generation, self.runs.len() as u16);
        self.runs.push(Run {
            to: datagram.to,
            from: datagram.from,
            first: index,
            last: index,
            segments: 1,
            segment_bytes: length.min(usize::from(u16::MAX)) as u16,
            bytes: length,
            open: length > 0,
        });
    }

    fn send_window(&mut self, fd: BorrowedFd<'_>, segmentation: &Cell<bool>, pieces: &[&[u8]], sent: &mut Sent) {
        self.headers.clear();
        for ((run, name), control) in self.runs.iter().zip(self.names.iter_mut()).zip(self.controls.iter_mut()) {
            control.clear();
            if let Some(from) = run.from {
                control.set_source(from);
            }
            if run.segments > 1 {
                control.set_segment(run.segment_bytes);
            }
            let length = name.set(run.to);
            self.headers.begin(name, length, control);
            let mut at = run.first;
            while let Some(piece) = pieces.get(usize::from(at)) {
                self.headers.piece(piece);
                at = self.next.get(usize::from(at)).copied().unwrap_or(NONE);
            }
        }
        let mut done = 0;
        while let Some(run) = self.runs.get(done).copied() {
            sent.system_calls += 1;
            // SAFETY: names and controls are fields untouched since `begin`, the pieces are borrowed by our caller.
            match unsafe { self.headers.send(fd, done) } {
                Ok(0) => return,
                Ok(count) => {
                    let taken = self.runs.get(done..done + count).unwrap_or_default();
                    sent.datagrams += taken.iter().map(|r| usize::from(r.segments)).sum::<usize>();
                    done += count;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if is_full(&e) => {
                    let rest = self.runs.get(done..).unwrap_or_default();
                    sent.refused += rest.iter().map(|r| usize::from(r.segments)).sum::<usize>();
                    return;
                }
                Err(e) => {
                    if run.segments > 1 {
                        // EIO: the device cannot checksum segments; EINVAL: a segment exceeds the path's MTU.
                        if e.raw_os_error() == Some(libc::EIO) {
                            segmentation.set(false);
                        }
                        self.send_singly(fd, &run, pieces, sent);
                        return self.resume_after(fd, segmentation, done + 1, pieces, sent);
                    }
                    sent.refused += 1;
                    done += 1;
                }
            }
        }
    }

    /// Sends a refused run's datagrams one by one.
    fn send_singly(&mut self, fd: BorrowedFd<'_>, run: &Run, pieces: &[&[u8]], sent: &mut Sent) {
        let mut name = RawAddress::EMPTY;
        let length = name.set(run.to);
        let mut control = Control::EMPTY;
        if let Some(from) = run.from {
            control.set_source(from);
        }
        let mut at = run.first;
        while let Some(piece) = pieces.get(usize::from(at)) {
            self.headers.clear();
            self.headers.begin(&name, length, &control);
            self.headers.piece(piece);
            sent.system_calls += 1;
            // SAFETY: name, control and piece live in this function's frame or are borrowed by our caller.
            match unsafe { self.headers.send(fd, 0) } {
                Ok(_) => sent.datagrams += 1,
                Err(_) => sent.refused += 1,
            }
            at = self.next.get(usize::from(at)).copied().unwrap_or(NONE);
        }
    }

    /// The headers were used for something else: begins again with the runs from `first` on.
    fn resume_after(&mut self, fd: BorrowedFd<'_>, seg: &Cell<bool>, first: usize, pieces: &[&[u8]], sent: &mut Sent) {
        self.runs.drain(..first.min(self.runs.len()));
        if !self.runs.is_empty() {
            self.send_window(fd, seg, pieces, sent);
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS))
}
