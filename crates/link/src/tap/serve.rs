//! The network form's listener: TLS 1.3 with both certificates, a greeting with the token, then records one way and
//! acknowledgements the other.
use super::hub::{Attach, Attachment, Next, Registry, TapHost, TapHostError};
use super::wire::{ACCEPTED, Greeting, MAX_GREETING_BYTES, Refusal};
use crate::identity::Fingerprint;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// For the handshake and the greeting together.
const STRANGER_PATIENCE: Duration = Duration::from_secs(5);
/// Records in one write.
const BATCH: usize = 128;

pub(super) async fn listen(
    host: &TapHost,
    registry: &Arc<Registry>,
) -> Result<(Vec<SocketAddr>, Vec<JoinHandle<()>>), TapHostError> {
    if host.listen.is_empty() {
        return Err(TapHostError::NoAddress);
    }
    let acceptor = TlsAcceptor::from(Arc::new(host.identity.mutual_server_config()?));
    let strangers = Arc::new(Semaphore::new(host.limits.strangers));
    let mut bound = Vec::new();
    let mut listeners = Vec::new();
    for address in &host.listen {
        let failed = |source| TapHostError::Listen { address: *address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        bound.push(listener.local_addr().map_err(failed)?);
        listeners.push(listener);
    }
    let accept =
        |listener| tokio::spawn(accept(listener, acceptor.clone(), Arc::clone(registry), Arc::clone(&strangers)));
    Ok((bound, listeners.into_iter().map(accept).collect()))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, registry: Arc<Registry>, strangers: Arc<Semaphore>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&strangers).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let acceptor = acceptor.clone();
                let registry = Arc::clone(&registry);
                connections.spawn(async move {
                    let greeted = timeout(STRANGER_PATIENCE, greet(stream, &acceptor, &registry)).await;
                    drop(permit);
                    match greeted {
                        Ok(Ok((stream, attachment))) => carry(stream, attachment).await,
                        Ok(Err(why)) => registry.refuse(from, &why),
                        Err(_) => registry.refuse(from, &"it said nothing in time"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the Tap listener could not accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum GreetError {
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Refused(#[from] Refusal),
}

async fn greet(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    registry: &Arc<Registry>,
) -> Result<(TlsStream<TcpStream>, Attachment), GreetError> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|der| Fingerprint::of(der));
    let verdict = read_greeting(&mut stream, registry, shown).await?;
    let code = verdict.as_ref().map_or_else(|refusal| refusal.code(), |_| ACCEPTED);
    stream.write_all(&[code]).await?;
    stream.flush().await?;
    if let Err(refusal) = verdict {
        let _ = stream.shutdown().await;
        return Err(refusal.into());
    }
    Ok((stream, verdict?))
}

async fn read_greeting(
    stream: &mut TlsStream<TcpStream>,
    registry: &Arc<Registry>,
    shown: Option<Fingerprint>,
) -> Result<Result<Attachment, Refusal>, std::io::Error> {
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_GREETING_BYTES {
        return Ok(Err(Refusal::Greeting));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Greeting::decode(&body).and_then(|greeting| {
        let tap = registry.find(greeting.recording, greeting.token)?;
        let recorder = shown.ok_or(Refusal::Certificate)?;
        let resume_after = greeting.resume_after;
        Attachment::new(tap, &Attach { registry, recorder, hub: None, remote: true, resume_after })
    }))
}

/// Until the Tap ends, the connection breaks, the reader falls silent, or another one takes over.
async fn carry(stream: TlsStream<TcpStream>, mut attachment: Attachment) {
    let (mut from, mut to) = tokio::io::split(stream);
    let hearing = attachment.hearing();
    let acknowledgements = async {
        while from.read_u64().await.is_ok() {
            hearing.heard();
        }
    };
    let displaced = async {
        while hearing.is_current() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let records = async {
        send_records(&mut attachment, &mut to).await?;
        to.shutdown().await?;
        // The reader closes when it has everything.
        tokio::time::sleep(STRANGER_PATIENCE).await;
        Ok::<_, std::io::Error>(())
    };
    tokio::select! {
        () = acknowledgements => {}
        () = displaced => {}
        _ = records => {}
    }
}

async fn send_records(attachment: &mut Attachment, to: &mut (impl AsyncWriteExt + Unpin)) -> std::io::Result<()> {
    let mut records = Vec::with_capacity(BATCH);
    let mut bytes = Vec::new();
    loop {
        records.clear();
        bytes.clear();
        match attachment.next(BATCH, &mut records).await {
            Next::Records => {
                for record in &records {
                    bytes.extend_from_slice(&u32::try_from(record.len()).unwrap_or(0).to_be_bytes());
                    bytes.extend_from_slice(record);
                }
                to.write_all(&bytes).await?;
                to.flush().await?;
            }
            Next::End | Next::Replaced => return Ok(()),
        }
    }
}
