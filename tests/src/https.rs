//! A page over TLS from a server on loopback, whatever it is called, and the certificate that it showed.
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub struct Page {
    pub status: u16,
    pub body: String,
    /// The server's own certificate, DER.
    pub certificate: Vec<u8>,
}

/// Asks the server at `port` under `name`, trusting the authorities in `roots_pem` alone.
pub fn get(port: u16, name: &str, roots_pem: &str, path: &str) -> Result<Page, String> {
    let words = |e: &dyn std::fmt::Display| e.to_string();
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots_pem.as_bytes()) {
        roots.add(root.map_err(|e| words(&e))?).map_err(|e| words(&e))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|e| words(&e))?.with_root_certificates(roots).with_no_client_auth();
    let server = ServerName::try_from(name.to_owned()).map_err(|e| words(&e))?;
    let client = ClientConnection::new(Arc::new(config), server).map_err(|e| words(&e))?;
    let tcp = TcpStream::connect(("127.0.0.1", port)).map_err(|e| words(&e))?;
    tcp.set_read_timeout(Some(Duration::from_secs(10))).map_err(|e| words(&e))?;
    let mut tls = StreamOwned::new(client, tcp);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    tls.write_all(request.as_bytes()).map_err(|e| words(&e))?;
    let mut reply = Vec::new();
    tls.read_to_end(&mut reply).map_err(|e| words(&e))?;
    let reply = String::from_utf8_lossy(&reply);
    let (head, body) = reply.split_once("\r\n\r\n").ok_or_else(|| format!("no page: {reply}"))?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| format!("no status: {head}"))?;
    let certificate = tls.conn.peer_certificates().and_then(|c| c.first()).map(|c| c.to_vec()).unwrap_or_default();
    Ok(Page { status, body: body.to_owned(), certificate })
}
