//! Where the log goes, as `log-file`, `syslog`, `no-stdout-log` and `verbose` say; and a session's one line.
use offhook_runtime::shown;
use offhook_turn_core::conf::Conf;
use offhook_turn_core::{AuthError, Denial, Output, UnknownUser};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// Facility daemon, severity info (RFC 5424 §6.2.1).
const SYSLOG_PRIORITY: &str = "<30>offhook-turn: ";

/// One line, one datagram.
struct Syslog(UnixDatagram);

impl Write for &Syslog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let message = [SYSLOG_PRIORITY.as_bytes(), line.trim_ascii_end()].concat();
        // A log that is not there stops nobody.
        let _ = self.0.send(&message);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn start(conf: &Conf) -> io::Result<()> {
    let level = if conf.log.very_verbose {
        "trace"
    } else if conf.log.verbose {
        "debug"
    } else {
        "info"
    };
    let writer = match conf.log.file.as_deref() {
        _ if conf.log.syslog => syslog()?,
        Some("syslog") => syslog()?,
        None | Some("stdout" | "-") => BoxMakeWriter::new(io::stdout),
        Some(path) => BoxMakeWriter::new(Mutex::new(OpenOptions::new().create(true).append(true).open(path)?)),
    };
    let filter = tracing_subscriber::EnvFilter::new(level);
    // Another subscriber may be installed already, by a test: that one stays.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(writer).try_init();
    Ok(())
}

fn syslog() -> io::Result<BoxMakeWriter> {
    let socket = UnixDatagram::unbound()?;
    socket.connect("/dev/log")?;
    Ok(BoxMakeWriter::new(std::sync::Arc::new(Syslog(socket))))
}

/// Writes what the threads tell.
pub(crate) fn write(output: &Output) {
    match output {
        Output::Started(started) => {
            let relayed = started.relayed.into_iter().flatten().map(|address| address.to_string()).collect::<Vec<_>>();
            tracing::debug!(user = ?started.user, client = %shown(started.path.client), ?relayed, "allocation begins");
        }
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
