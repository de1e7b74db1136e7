//! The API over certificate files, and new files taken at a reload (SIGHUP) while it serves.
use crate::nodes::Script;
use crate::stage::{PATIENCE, Stage};
use std::path::Path;

/// Writes a new self-signed certificate for loopback; returns a client that trusts this one and no other.
fn certificate_in(folder: &Path) -> reqwest::Client {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let pem = made.cert.pem();
    std::fs::write(folder.join("fullchain.pem"), &pem).unwrap();
    std::fs::write(folder.join("privkey.pem"), made.signing_key.serialize_pem()).unwrap();
    let trusted = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
    reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).tls_certs_only([trusted]).build().unwrap()
}

async fn answers(client: &reqwest::Client, stage: &Stage) -> bool {
    let asked = client.get(format!("https://{}/", stage.address)).send().await;
    asked.is_ok_and(|response| response.headers().contains_key("strict-transport-security"))
}

#[tokio::test]
async fn certificate_files_are_served_and_read_again_at_a_reload_unless_they_are_broken() {
    offhook_runtime::install_crypto_provider();
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).display().to_string();
    let first = certificate_in(files.path());
    let config = format!("[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n", path("fullchain.pem"), path("privkey.pem"));
    let stage = Stage::with(&config, Script::default()).await;
    assert!(answers(&first, &stage).await);
    assert!(stage.http.get(stage.url("/")).send().await.is_err(), "no plain HTTP beside it");
    let second = certificate_in(files.path());
    assert!(!answers(&second, &stage).await, "nobody said that there is a new one");
    stage.reload();
    let taken = async {
        let mut look = tokio::time::interval(std::time::Duration::from_millis(10));
        while !answers(&second, &stage).await {
            look.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("the new certificate is not served");
    assert!(!answers(&first, &stage).await);
    std::fs::write(path("fullchain.pem"), "no certificate").unwrap();
    stage.reload();
    assert!(answers(&second, &stage).await, "the former stays");
}
