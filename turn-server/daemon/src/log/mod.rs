//! Where the log goes, as `log-file`, `syslog`, `no-stdout-log` and `verbose` say; and a session's one line.
mod sink;

use arc_swap::ArcSwap;
use offhook_runtime::shown;
use offhook_turn_core::conf::LogOptions;
use offhook_turn_core::{AuthError, Denial, Output, UnknownUser};
use sink::Sink;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, fmt, reload};

/// The process's log. Places and level change together, at a reload.
#[derive(Clone)]
pub(crate) struct Log {
    sink: Places,
    level: reload::Handle<LevelFilter, Registry>,
}

impl Log {
    /// Begins to log. The sentence, if there is one, says which place cannot be had.
    pub(crate) fn start(options: &LogOptions) -> (Self, Option<String>) {
        let (sink, lack) = Sink::of(options);
        let sink = Places(Arc::new(ArcSwap::from_pointee(sink)));
        let (filter, level) = reload::Layer::new(level(options));
        let lines = fmt::layer().with_ansi(false).with_writer(sink.clone());
        // Another subscriber may be installed already, by a test: that one stays.
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        (Self { sink, level }, lack)
    }

    /// Opens everything again: files that were renamed are left behind. Where that fails, lines go on to where they went.
    pub(crate) fn reopen(&self, options: &LogOptions) {
        let (sink, lack) = Sink::of(options);
        let _ = self.level.reload(level(options));
        match lack {
            None => self.sink.0.store(Arc::new(sink)),
            Some(lack) => tracing::error!("{lack}; lines go on to where they went"),
        }
    }

    /// The file that is written now.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        self.sink.0.load().path()
    }
}

const fn level(options: &LogOptions) -> LevelFilter {
    match (options.very_verbose, options.verbose) {
        (true, _) => LevelFilter::TRACE,
        (false, true) => LevelFilter::DEBUG,
        (false, false) => LevelFilter::INFO,
    }
}

#[derive(Clone)]
struct Places(Arc<ArcSwap<Sink>>);

/// One event's writer; the formatter hands over a whole line at once.
struct Line {
    places: Places,
    level: Level,
}

impl<'a> MakeWriter<'a> for Places {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { places: self.clone(), level: Level::INFO }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line {
        Line { places: self.clone(), level: *event.level() }
    }
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.places.0.load().write(self.level, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what the threads tell.
pub(crate) fn write(output: &Output) {
    match output {
        Output::Started(started) => tracing::debug!(
            user = ?started.user,
            client = %shown(started.path.client),
            relayed = ?started.relayed.into_iter().flatten().collect::<Vec<_>>(),
            "allocation begins"
        ),
        Output::Ended(ended) => tracing::info!(
            user = ?ended.user,
            client = %shown(ended.path.client),
            via = ?ended.path.via,
            relayed = ?ended.relayed.into_iter().flatten().map(|address| address.port()).collect::<Vec<_>>(),
            seconds = ended.duration.as_secs(),
            up_packets = ended.up.packets,
            up_bytes = ended.up.bytes,
            down_packets = ended.down.packets,
            down_bytes = ended.down.bytes,
            cause = %ended.cause,
            "allocation ended"
        ),
        Output::Denied(denied) => {
            let peer = denied.peer.map(|peer| peer.to_string());
            let (why, client, user, left_out) = (denied.why, shown(denied.client), &denied.user, denied.left_out);
            match why {
                // Somebody who once could get in: an operator should look.
                Denial::Auth(AuthError::Password | AuthError::Unknown(UnknownUser::Expired(_))) => {
                    tracing::warn!(%why, %client, ?user, left_out, "refused");
                }
                _ => tracing::info!(%why, %client, ?user, peer, left_out, "refused"),
            }
        }
        Output::OpenRelay { .. } | Output::CloseRelay { .. } | Output::CloseClient { .. } => {}
    }
}
