//! Fetches a recorder's files: plain on loopback, elsewhere over TLS with the certificate pinned by the bus.
use offhook_contract::recorder::FileGrant;
use offhook_link::{IdentityError, pinned_client_config};
use reqwest::header::{HeaderValue, RANGE};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Recorders whose clients are kept.
const MAX_CLIENTS: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("the recorder's address cannot be read")]
    Address,
    #[error("the recorder gave an http address off loopback, or an https one without a fingerprint")]
    Insecure,
    #[error("the recorder's fingerprint is not 64 hexadecimal digits")]
    Fingerprint,
    #[error(transparent)]
    Tls(#[from] IdentityError),
    /// Without its address, for the token is in it.
    #[error("the recorder's file listener: {0}")]
    Http(reqwest::Error),
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error.without_url())
    }
}

#[derive(Default)]
pub struct Fetcher {
    clients: Mutex<HashMap<String, reqwest::Client>>,
}

impl Fetcher {
    pub async fn get(&self, grant: &FileGrant, range: Option<HeaderValue>) -> Result<reqwest::Response, FetchError> {
        let url = reqwest::Url::parse(grant.url.expose()).map_err(|_| FetchError::Address)?;
        let on_loopback = match url.host_str() {
            Some("localhost") => true,
            Some(host) => host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
            None => false,
        };
        let fingerprint = match (url.scheme(), &grant.fingerprint) {
            ("http", _) if on_loopback => "",
            ("https", Some(fingerprint)) => fingerprint.as_str(),
            _ => return Err(FetchError::Insecure),
        };
        let mut request = self.client(fingerprint)?.get(url);
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        Ok(request.send().await?)
    }

    fn client(&self, fingerprint: &str) -> Result<reqwest::Client, FetchError> {
        // The table stays whole when a holder panics.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(fingerprint) {
            return Ok(client.clone());
        }
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT);
        if !fingerprint.is_empty() {
            let pinned = pinned_client_config(fingerprint.parse().map_err(|_| FetchError::Fingerprint)?)?;
            builder = builder.https_only(true).tls_backend_preconfigured(pinned);
        }
        let client = builder.build()?;
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.insert(fingerprint.to_owned(), client.clone());
        Ok(client)
    }
}
