//! Header extension elements: the one-byte and two-byte forms, and editing in place (RFC 8285 §4).

use crate::{HeaderView, RtpError};

/// RFC 8285 §4.2.
pub(crate) const ONE_BYTE_PROFILE: u16 = 0xBEDE;
/// RFC 8285 §4.3: the lowest four bits are left to the application.
const TWO_BYTE_PROFILE: u16 = 0x1000;

/// One element: the id the signalling gave it, and its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension<'a> {
    pub id: u8,
    pub data: &'a [u8],
}

/// Why an element could not be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionError {
    #[error(transparent)]
    Packet(#[from] RtpError),
    #[error("the packet has no one-byte element {0}")]
    Absent(u8),
    #[error("the element has {present} bytes, not {wanted}")]
    Length { present: usize, wanted: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    OneByte,
    TwoByte,
    Foreign,
}

impl Form {
    const fn of(profile: u16) -> Self {
        if profile == ONE_BYTE_PROFILE {
            Self::OneByte
        } else if profile & 0xFFF0 == TWO_BYTE_PROFILE {
            Self::TwoByte
        } else {
            Self::Foreign
        }
    }
}

/// Walks the elements. A broken one ends the walk, as do the reserved id 15 and id 0 with a length (RFC 8285 §4.2).
#[derive(Debug, Clone)]
pub struct Extensions<'a> {
    form: Form,
    data: &'a [u8],
    at: usize,
}

impl<'a> Extensions<'a> {
    pub(crate) const fn empty() -> Self {
        Self { form: Form::Foreign, data: &[], at: 0 }
    }

    pub(crate) const fn new(profile: u16, data: &'a [u8]) -> Self {
        Self { form: Form::of(profile), data, at: 0 }
    }

    /// The next element with the position of its data inside the block.
    fn step(&mut self) -> Option<(usize, Extension<'a>)> {
        loop {
            let first = *self.data.get(self.at)?;
            let (id, len, start) = match self.form {
                // In both forms a zero byte is padding between elements.
                Form::OneByte | Form::TwoByte if first == 0 => {
                    self.at += 1;
                    continue;
                }
                Form::OneByte if matches!(first >> 4, 0 | 15) => return None,
                Form::OneByte => (first >> 4, usize::from(first & 0x0F) + 1, self.at + 1),
                Form::TwoByte => (first, usize::from(*self.data.get(self.at + 1)?), self.at + 2),
                Form::Foreign => return None,
            };
            let data = self.data.get(start..start + len)?;
            self.at = start + len;
            return Some((start, Extension { id, data }));
        }
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Extension<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().map(|(_, element)| element)
    }
}

/// Replaces the data of a one-byte element without moving a byte: the length must stay the same.
///
/// # Errors
/// Not an RTP packet, no such element, or another length.
pub fn set_one_byte_extension_in_place(packet: &mut [u8], id: u8, data: &[u8]) -> Result<(), ExtensionError> {
    let view = HeaderView::parse(packet)?;
    let (profile, range) = view.extension_range().ok_or(ExtensionError::Absent(id))?;
    if profile != ONE_BYTE_PROFILE {
        return Err(ExtensionError::Absent(id));
    }
    let block = packet.get_mut(range).ok_or(ExtensionError::Absent(id))?;
    let mut elements = Extensions::new(profile, block);
    let (start, present) = loop {
        let (start, element) = elements.step().ok_or(ExtensionError::Absent(id))?;
        if element.id == id {
            break (start, element.data.len());
        }
    };
    if present != data.len() {
        return Err(ExtensionError::Length { present, wanted: data.len() });
    }
    block.iter_mut().skip(start).zip(data).for_each(|(slot, byte)| *slot = *byte);
    Ok(())
}
