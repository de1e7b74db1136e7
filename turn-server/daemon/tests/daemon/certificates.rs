//! Certificates that call-control fetches by ACME, as TLS of TURN presents them.
use super::*;
use std::path::{Path, PathBuf};

/// The serial number of the certificate, and the cipher; `None` when there is no handshake.
fn handshake(server: SocketAddr, switches: &[&str]) -> Option<(String, String)> {
    let mut command = std::process::Command::new("openssl");
    command.args(["s_client", "-connect", &server.to_string()]).args(switches).stdin(std::process::Stdio::null());
    let text = String::from_utf8_lossy(&command.output().expect("openssl is not installed").stdout).into_owned();
    let cipher = text.lines().find_map(|line| line.split_once("Cipher is "))?.1.to_owned();
    let certificate = text.split_once("-----BEGIN").and_then(|(_, rest)| rest.split_once("-----END"));
    Some((certificate?.0.to_owned(), cipher)).filter(|(_, cipher)| cipher != "(NONE)")
}

const ACME: &str = "[tls]\nacme_domains = [\"phone.example.org\"]\n";

/// Where call-control keeps what it fetched.
fn folder(stage: &Stage) -> PathBuf {
    let folder = stage.folder.path().join("control/acme");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// As rustls-acme keeps them. What is returned is the certificate as [`handshake`] shows it.
fn fetch(to: &Path, name: &str) -> String {
    let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let chain = certified.cert.pem().replace("\r\n", "\n");
    std::fs::write(to, format!("{}\n{chain}", certified.signing_key.serialize_pem())).unwrap();
    chain.split_once("-----BEGIN").unwrap().1.split_once("-----END").unwrap().0.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_acme_tls_takes_what_call_control_fetched_and_what_it_fetches_later() {
    let stage = Stage::with(&format!("ciphers = \"ECDHE-ECDSA-AES128-GCM-SHA256\"\n{ACME}")).await;
    let stream = stage.stream.unwrap();
    assert_eq!(handshake(stream, &[]), None);
    let minted = credentials::mint(stage.secret().as_bytes(), wall_now().0 / 1_000 + 600, "u");
    assert_eq!(Client::tcp(stream, &minted.username, &minted.password).allocate().code(), 0, "TCP waits for nobody");
    let kept = folder(&stage).join("cached_cert_a");
    let first = fetch(&kept, "phone.example.org");
    until("the certificate serves", || handshake(stream, &[]).is_some()).await;
    assert_eq!(handshake(stream, &["-tls1_2"]), Some((first, "ECDHE-ECDSA-AES128-GCM-SHA256".to_owned())));
    let renewed = fetch(&kept, "phone.example.org");
    until("the renewed one serves", || handshake(stream, &["-tls1_2"]).is_some_and(|now| now.0 == renewed)).await;
}

/// A link to what is not there yet cannot be read, and does not change when it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_read_is_tried_again() {
    let stage = Stage::with(ACME).await;
    let (folder, stream) = (folder(&stage), stage.stream.unwrap());
    fetch(&folder.join("cached_cert_a"), "phone.example.org");
    until("the certificate serves", || handshake(stream, &[]).is_some()).await;
    let target = stage.folder.path().join("elsewhere");
    std::os::unix::fs::symlink(&target, folder.join("cached_cert_b")).unwrap();
    // Longer than from one look to the next; the former one serves meanwhile.
    let looked = tokio::time::Instant::now() + Duration::from_millis(2_500);
    while tokio::time::Instant::now() < looked {
        assert!(handshake(stream, &[]).is_some());
    }
    let renewed = fetch(&target, "phone.example.org");
    until("the renewed one serves", || handshake(stream, &[]).is_some_and(|now| now.0 == renewed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_serves_is_not_given_up_for_none() {
    let stage = Stage::with(ACME).await;
    let (folder, stream) = (folder(&stage), stage.stream.unwrap());
    let first = fetch(&folder.join("cached_cert_a"), "phone.example.org");
    until("the certificate serves", || handshake(stream, &[]).is_some()).await;
    std::fs::remove_dir_all(&folder).unwrap();
    stage.switch.reload(file(&format!("secrets = [\"south\"]\n{ACME}"), &stage.folder));
    until("the new secret opens", || stage.log_in_under("south", "u", 600).unwrap().allocate().is_ok()).await;
    // Answered when the reload is over.
    stage.sessions(None).await;
    assert_eq!(handshake(stream, &[]).map(|now| now.0), Some(first));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_these_names_is_taken_before_a_newer_one_for_others() {
    let stage = Stage::with(ACME).await;
    let (folder, stream) = (folder(&stage), stage.stream.unwrap());
    let others = fetch(&folder.join("cached_cert_a"), "other.example.org");
    let serves = |what: &str| handshake(stream, &[]).is_some_and(|now| now.0 == what);
    until("the only one serves", || serves(&others)).await;
    let ours = folder.join("cached_cert_b");
    let expected = fetch(&ours, "phone.example.org");
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3_600);
    std::fs::File::options().write(true).open(&ours).unwrap().set_modified(long_ago).unwrap();
    until("the one for our name serves", || serves(&expected)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_files_and_ciphers_serve_who_comes_after_the_reload() {
    let files = tempfile::tempdir().unwrap();
    // Chain and key may be one file.
    let pair = |name: &str| -> (String, String) {
        let path = files.path().join(name);
        let shown = fetch(&path, "phone.example.org");
        (format!("certificate = \"{0}\"\nkey = \"{0}\"\n", path.display()), shown)
    };
    let (old, new) = (pair("old.pem"), pair("new.pem"));
    let stage = Stage::with(&format!("{}ciphers = \"ECDHE-ECDSA-CHACHA20-POLY1305\"\n", old.0)).await;
    let stream = stage.stream.unwrap();
    let mut alice = stage.allocated("alice");
    let shown = || handshake(stream, &["-tls1_2"]);
    assert_eq!(shown(), Some((old.1, "ECDHE-ECDSA-CHACHA20-POLY1305".to_owned())));
    let text = format!("{}ciphers = \"ECDHE-ECDSA-AES128-GCM-SHA256\"\n", new.0);
    stage.switch.reload(file(&text, &stage.folder));
    let expected = Some((new.1, "ECDHE-ECDSA-AES128-GCM-SHA256".to_owned()));
    until("the new ones serve", || shown() == expected).await;
    alice.refresh(600).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_key_is_opened_with_its_password() {
    let files = tempfile::tempdir().unwrap();
    let (pair, locked) = (files.path().join("pair.pem"), files.path().join("locked.pem"));
    let shown = fetch(&pair, "phone.example.org");
    let mut command = std::process::Command::new("openssl");
    command.args(["ec", "-aes128", "-passout", "pass:open sesame", "-in"]).arg(&pair).arg("-out").arg(&locked);
    assert!(command.output().expect("openssl is not installed").status.success());
    let keys = format!("certificate = \"{}\"\nkey = \"{}\"\n", pair.display(), locked.display());
    let stage = Stage::with(&format!("{keys}key_password = \"open sesame\"\n")).await;
    assert_eq!(handshake(stage.stream.unwrap(), &[]).map(|now| now.0), Some(shown));
}
