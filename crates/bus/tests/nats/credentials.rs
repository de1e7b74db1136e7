//! TLS, tokens and nkeys.
use crate::server::{NatsServer, connect};
use offhook_bus::NatsCredentials;
use offhook_contract::{DaemonKind, Secret};
use std::path::PathBuf;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const NEVER: Duration = Duration::from_secs(1);

fn write(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tls_server_is_believed_when_the_given_authority_signed_it_and_not_otherwise() {
    // Another test of this process may have installed it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let named = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (ours, other) = (named(), named());
    let certificate = write(&folder, "server.pem", &ours.cert.pem());
    let key = write(&folder, "server.key", &ours.signing_key.serialize_pem());
    let stranger = write(&folder, "stranger.pem", &other.cert.pem());
    let arguments = ["--tls", "--tlscert", certificate.to_str().unwrap(), "--tlskey", key.to_str().unwrap()];
    let server = NatsServer::with_arguments(&arguments).await;

    let mut options = server.options(DaemonKind::Sfu, NatsCredentials::None);
    options.urls = vec![format!("tls://localhost:{}", server.port)];
    options.ca_file = Some(stranger);
    assert!(connect(options.clone(), NEVER).await.is_none(), "an unknown authority was believed");
    options.ca_file = Some(certificate);
    assert!(connect(options.clone(), SOON).await.is_some());
    options.ca_file = Some(folder.path().join("missing.pem"));
    let refused = offhook_bus::Bus::connect_nats(options).await.unwrap_err().to_string();
    assert!(refused.contains("missing.pem"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_opens_the_bus() {
    let server = NatsServer::with_arguments(&["--auth", "the-token"]).await;
    let with = |token: &str| server.options(DaemonKind::Sip, NatsCredentials::Token(Secret::new(token)));
    assert!(connect(with("another"), NEVER).await.is_none());
    assert!(connect(with("the-token"), SOON).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_nkey_opens_the_bus() {
    // The example pair of the NATS documentation.
    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const USER: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
    let text = format!("authorization {{ users: [ {{ nkey: {USER} }} ] }}\n");
    let server = NatsServer::with_config(&text, &[]).await;
    let with = NatsCredentials::NkeySeed(Secret::new(SEED));
    assert!(connect(server.options(DaemonKind::Recorder, NatsCredentials::None), NEVER).await.is_none());
    assert!(connect(server.options(DaemonKind::Recorder, with), SOON).await.is_some());
}
