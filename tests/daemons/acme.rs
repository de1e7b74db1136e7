//! Certificates by ACME (RFC 8555) from a real authority, which reaches back to us (RFC 8737) before it issues anything.
use offhook_tests::https::{self, Page};
use offhook_tests::stack::Plan;
use offhook_tests::{Pebble, Stack, wait};
use std::os::unix::fs::PermissionsExt as _;

const NAME: &str = "phone.example.test";

fn stack(tls: &str) -> Stack {
    Stack::up(&Plan { config: format!("[tls]\n{tls}"), ..Plan::default() })
}

/// The page, once it is served with a certificate of this authority.
fn page(stack: &Stack, root: &str) -> Page {
    wait::until("the page over HTTPS", wait::secs(30), || https::get(stack.web_port, NAME, root, "/"))
}

#[track_caller]
fn until_logged(stack: &Stack, words: &str) {
    wait::until(words, wait::secs(30), || if stack.logs().contains(words) { Ok(()) } else { Err(stack.logs()) });
}

#[test]
fn a_certificate_is_fetched_and_kept_and_serves_again_without_the_authority() {
    let folder = tempfile::tempdir().unwrap();
    let mut pebble = Pebble::prepare(folder.path());
    // The authority is not there yet: the daemon starts all the same, says so and tries again.
    let mut stack = stack(&pebble.config(NAME));
    until_logged(&stack, "certificate by ACME: not fetched");
    pebble.start(stack.web_port, 90 * 86_400);
    let root = pebble.root();
    let first = page(&stack, &root);
    assert!(first.status == 200 && first.body.contains("<html"), "{first:?}");
    assert_eq!(pebble.orders(), 1);
    let kept = std::fs::read_dir(stack.data().join("control/acme")).unwrap().map(|entry| entry.unwrap());
    let modes: Vec<u32> = kept.map(|file| file.metadata().unwrap().permissions().mode() & 0o777).collect();
    assert_eq!(modes, [0o600, 0o600], "the account's key, and the certificate with its key, are ours alone");
    stack.kill_9("offhook");
    pebble.stop();
    stack.start("offhook");
    let again = page(&stack, &root);
    assert!(again.certificate == first.certificate, "the kept certificate serves");
    assert_eq!(pebble.orders(), 1);
}

#[test]
fn a_certificate_is_renewed_before_it_expires_while_pages_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let mut pebble = Pebble::prepare(folder.path());
    let stack = stack(&pebble.config(NAME));
    pebble.start(stack.web_port, 18);
    let root = pebble.root();
    let first = page(&stack, &root);
    // Pages are served throughout, first with the old one, then with the new one.
    wait::until("another certificate", wait::secs(30), || {
        let now = https::get(stack.web_port, NAME, &root, "/").unwrap_or_else(|e| panic!("not served: {e}"));
        if now.certificate == first.certificate { Err("still the first one".into()) } else { Ok(()) }
    });
    assert!(pebble.orders() >= 2);
}

#[test]
fn the_log_says_why_there_is_no_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let mut pebble = Pebble::prepare(folder.path());
    // Where the authority looks for us nobody listens.
    pebble.start(offhook_tests::ports::free(), 86_400);
    let closed = stack(&pebble.config(NAME));
    until_logged(&closed, &format!("{NAME} could not be validated"));
    until_logged(&closed, "port 443");
    // Nobody on this machine knows pebble's own certificate.
    let unknown = format!("acme_domains = [\"{NAME}\"]\nacme_directory = \"{}\"\n", pebble.directory());
    until_logged(&stack(&unknown), "UnknownIssuer");
}
