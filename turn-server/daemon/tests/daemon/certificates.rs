//! Certificates that call-control fetches by ACME, as TLS of TURN presents them.
use super::*;

/// The serial number of the certificate, and the cipher; `None` when there is no handshake.
fn handshake(server: SocketAddr, switches: &[&str]) -> Option<(String, String)> {
    let mut command = std::process::Command::new("openssl");
    command.args(["s_client", "-connect", &server.to_string()]).args(switches).stdin(std::process::Stdio::null());
    let text = String::from_utf8_lossy(&command.output().expect("openssl is not installed").stdout).into_owned();
    let cipher = text.lines().find_map(|line| line.split_once("Cipher is "))?.1.to_owned();
    let certificate = text.split_once("-----BEGIN").and_then(|(_, rest)| rest.split_once("-----END"));
    Some((certificate?.0.to_owned(), cipher)).filter(|(_, cipher)| cipher != "(NONE)")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_acme_tls_takes_what_call_control_fetched_and_what_it_fetches_later() {
    let text = "ciphers = \"ECDHE-ECDSA-AES128-GCM-SHA256\"\n[tls]\nacme_domains = [\"phone.example.org\"]\n";
    let stage = Stage::with(text).await;
    let stream = stage.stream.unwrap();
    assert_eq!(handshake(stream, &[]), None);
    let minted = credentials::mint(stage.secret().as_bytes(), wall_now().0 / 1_000 + 600, "u");
    assert_eq!(Client::tcp(stream, &minted.username, &minted.password).allocate().code(), 0, "TCP waits for nobody");
    let folder = stage.folder.path().join("control/acme");
    std::fs::create_dir_all(&folder).unwrap();
    let fetch = |name: &str| {
        let certified = rcgen::generate_simple_self_signed(["phone.example.org".to_owned()]).unwrap();
        // As rustls-acme keeps them.
        let both = format!("{}\n{}", certified.signing_key.serialize_pem(), certified.cert.pem());
        std::fs::write(folder.join(name), both).unwrap();
    };
    fetch("cached_cert_a");
    until("the certificate serves", || handshake(stream, &[]).is_some()).await;
    let first = handshake(stream, &["-tls1_2"]).unwrap();
    assert_eq!(first.1, "ECDHE-ECDSA-AES128-GCM-SHA256");
    fetch("cached_cert_a");
    until("the renewed one serves", || handshake(stream, &["-tls1_2"]).is_some_and(|now| now.0 != first.0)).await;
}
