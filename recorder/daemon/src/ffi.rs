//! libFLAC's stream encoder: the only unsafe code of this crate.
#![allow(unsafe_code)]
use libflac_sys as sys;
use std::ffi::c_void;
use std::io::{Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

#[derive(Debug, thiserror::Error)]
pub enum FlacError {
    #[error("libFLAC refuses these parameters ({0})")]
    Init(u32),
    #[error("libFLAC could not allocate its encoder")]
    Memory,
    #[error("libFLAC failed in state {0}")]
    Encode(u32),
    #[error("the FLAC file could not be written")]
    Write(#[from] std::io::Error),
}

/// What the callbacks reach.
struct Target<W> {
    to: W,
    error: Option<std::io::Error>,
}

/// Encodes 16-bit stereo into `to`, whose header is rewritten at the end.
pub struct FlacEncoder<W: Write + Seek> {
    encoder: NonNull<sys::FLAC__StreamEncoder>,
    /// Boxed: libFLAC keeps its address.
    target: Box<Target<W>>,
}

const CHANNELS: u32 = 2;
const BITS: u32 = 16;
/// libFLAC's default; 5 is where more time gains next to nothing.
const LEVEL: u32 = 5;

impl<W: Write + Seek> FlacEncoder<W> {
    pub fn new(rate_hz: u32, to: W) -> Result<Self, FlacError> {
        // SAFETY: no arguments; null means out of memory and is checked.
        let encoder = NonNull::new(unsafe { sys::FLAC__stream_encoder_new() }).ok_or(FlacError::Memory)?;
        let mut flac = Self { encoder, target: Box::new(Target { to, error: None }) };
        let raw = flac.encoder.as_ptr();
        let data: *mut Target<W> = &mut *flac.target;
        // SAFETY: `raw` is live until drop and not yet initialised, as the setters want it; the callbacks get `data`,
        // which lives in a box as long as the encoder and is reached only during calls that hold `&mut self`.
        let status = unsafe {
            sys::FLAC__stream_encoder_set_channels(raw, CHANNELS);
            sys::FLAC__stream_encoder_set_bits_per_sample(raw, BITS);
            sys::FLAC__stream_encoder_set_sample_rate(raw, rate_hz);
            sys::FLAC__stream_encoder_set_compression_level(raw, LEVEL);
            sys::FLAC__stream_encoder_init_stream(
                raw,
                Some(write::<W>),
                Some(seek::<W>),
                Some(tell::<W>),
                None,
                data.cast(),
            )
        };
        match flac.target.error.take() {
            Some(error) => Err(error.into()),
            None if status != sys::FLAC__STREAM_ENCODER_INIT_STATUS_OK => Err(FlacError::Init(status)),
            None => Ok(flac),
        }
    }

    /// Interleaved samples within 16 bits; an odd one at the end is left out.
    pub fn process(&mut self, samples: &[i32]) -> Result<(), FlacError> {
        let frames = u32::try_from(samples.len() / 2).unwrap_or(0);
        // SAFETY: the encoder is initialised; `samples` holds `frames` frames of two channels.
        let fine =
            unsafe { sys::FLAC__stream_encoder_process_interleaved(self.encoder.as_ptr(), samples.as_ptr(), frames) };
        self.outcome(fine != 0)
    }

    /// Writes what is left and the final header.
    pub fn finish(mut self) -> Result<(), FlacError> {
        // SAFETY: the encoder is live; finishing twice is allowed.
        let fine = unsafe { sys::FLAC__stream_encoder_finish(self.encoder.as_ptr()) };
        self.outcome(fine != 0)?;
        Ok(self.target.to.flush()?)
    }

    fn outcome(&mut self, fine: bool) -> Result<(), FlacError> {
        if let Some(error) = self.target.error.take() {
            return Err(error.into());
        }
        // SAFETY: the encoder is live.
        if fine {
            Ok(())
        } else {
            Err(FlacError::Encode(unsafe { sys::FLAC__stream_encoder_get_state(self.encoder.as_ptr()) }))
        }
    }
}

impl<W: Write + Seek> Drop for FlacEncoder<W> {
    fn drop(&mut self) {
        // SAFETY: made by `new`, deleted once. Deleting finishes first, so the callbacks may run: `target` still lives.
        unsafe { sys::FLAC__stream_encoder_delete(self.encoder.as_ptr()) };
    }
}

/// Runs a callback's body; neither an error nor a panic crosses into C.
///
/// # Safety
/// `data` is the target given to libFLAC by the encoder that now calls back.
unsafe fn reach<W, T>(data: *mut c_void, body: impl FnOnce(&mut W) -> std::io::Result<T>) -> Option<T> {
    // SAFETY: see above; the encoder's call holds `&mut FlacEncoder`, so nobody else reaches the target.
    let target = unsafe { &mut *data.cast::<Target<W>>() };
    let outcome = catch_unwind(AssertUnwindSafe(|| body(&mut target.to)))
        .unwrap_or_else(|_| Err(std::io::Error::other("the writer panicked")));
    outcome.map_err(|error| target.error = Some(error)).ok()
}

unsafe extern "C" fn write<W: Write>(
    _: *const sys::FLAC__StreamEncoder,
    buffer: *const sys::FLAC__byte,
    bytes: usize,
    _: u32,
    _: u32,
    data: *mut c_void,
) -> sys::FLAC__StreamEncoderWriteStatus {
    // SAFETY: libFLAC gives `bytes` readable bytes for the time of the call.
    let bytes = unsafe { std::slice::from_raw_parts(buffer, bytes) };
    // SAFETY: `data` is ours.
    match unsafe { reach::<W, _>(data, |to| to.write_all(bytes)) } {
        Some(()) => sys::FLAC__STREAM_ENCODER_WRITE_STATUS_OK,
        None => sys::FLAC__STREAM_ENCODER_WRITE_STATUS_FATAL_ERROR,
    }
}

unsafe extern "C" fn seek<W: Seek>(
    _: *const sys::FLAC__StreamEncoder,
    offset: sys::FLAC__uint64,
    data: *mut c_void,
) -> sys::FLAC__StreamEncoderSeekStatus {
    // SAFETY: `data` is ours.
    match unsafe { reach::<W, _>(data, |to| to.seek(SeekFrom::Start(offset))) } {
        Some(_) => sys::FLAC__STREAM_ENCODER_SEEK_STATUS_OK,
        None => sys::FLAC__STREAM_ENCODER_SEEK_STATUS_ERROR,
    }
}

unsafe extern "C" fn tell<W: Seek>(
    _: *const sys::FLAC__StreamEncoder,
    offset: *mut sys::FLAC__uint64,
    data: *mut c_void,
) -> sys::FLAC__StreamEncoderTellStatus {
    // SAFETY: `data` is ours.
    match unsafe { reach::<W, _>(data, Seek::stream_position) } {
        Some(position) => {
            // SAFETY: libFLAC gives a place for one number.
            unsafe { *offset = position };
            sys::FLAC__STREAM_ENCODER_TELL_STATUS_OK
        }
        None => sys::FLAC__STREAM_ENCODER_TELL_STATUS_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use std::process::Command;

    #[test]
    fn the_reference_decoder_gets_back_every_sample() {
        let directory = tempfile::tempdir().unwrap();
        let (flac, raw) = (directory.path().join("a.flac"), directory.path().join("a.raw"));
        let samples: Vec<i32> = (0..96_000).map(|n| (n * 7_919) % 65_536 - 32_768).collect();
        let mut encoder = FlacEncoder::new(48_000, std::fs::File::create(&flac).unwrap()).unwrap();
        samples.chunks(3_000).for_each(|piece| encoder.process(piece).unwrap());
        encoder.finish().unwrap();
        assert!(Command::new("flac").args(["-t", "-s"]).arg(&flac).status().unwrap().success());
        let decode = ["-d", "-s", "--force-raw-format", "--endian=little", "--sign=signed", "-o"];
        assert!(Command::new("flac").args(decode).arg(&raw).arg(&flac).status().unwrap().success());
        let bytes = std::fs::read(&raw).unwrap();
        let back: Vec<i32> = bytes.chunks(2).map(|b| i32::from(i16::from_le_bytes([b[0], b[1]]))).collect();
        assert_eq!(back, samples);
    }

    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl Seek for Full {
        fn seek(&mut self, _: SeekFrom) -> std::io::Result<u64> {
            Ok(0)
        }
    }

    #[test]
    fn a_full_disk_is_an_error_with_its_cause_and_a_bad_rate_is_refused() {
        let failed = FlacEncoder::new(48_000, Full).and_then(|mut encoder| {
            encoder.process(&[0; 100_000])?;
            encoder.finish()
        });
        match failed {
            Err(FlacError::Write(error)) => assert_eq!(error.kind(), std::io::ErrorKind::StorageFull),
            other => panic!("{other:?}"),
        }
        assert!(matches!(FlacEncoder::new(2_000_000, Cursor::new(Vec::new())), Err(FlacError::Init(_))));
    }
}
