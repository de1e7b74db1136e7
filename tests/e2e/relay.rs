//! A browser that can reach nothing but a TURN server calls through it, with credentials from the join.
use offhook_tests::browser::Options;
use offhook_tests::stack::Plan;
use offhook_tests::{Coturn, Softphone, Stack, browser, sound};

/// As a firewall would have it: only relayed candidates.
const RELAY_ONLY: &str = "(() => { const Own = window.RTCPeerConnection; window.__peers = []; \
    window.RTCPeerConnection = class extends Own { constructor(config) { \
    super({ ...config, iceTransportPolicy: 'relay' }); window.__peers.push(this); } }; })()";
const LOCAL_KIND: &str = "(async () => { const rows = [...(await window.__peers.at(-1).getStats()).values()]; \
    const pair = rows.find((r) => r.type === 'candidate-pair' && r.nominated && r.state === 'succeeded'); \
    return rows.find((r) => r.id === pair?.localCandidateId)?.candidateType ?? 'none'; })()";

#[test]
fn a_browser_behind_a_firewall_hears_itself_through_coturn() {
    let folder = tempfile::tempdir().unwrap();
    let coturn = Coturn::start(folder.path());
    let stack = Stack::up(&Plan { config: coturn.config(), ..Plan::default() });
    let wav = sound::tone_file(folder.path(), 440, sound::BROWSER_RATE, 4);
    let options = Options { wav: Some(wav), listen: true, before: Some(RELAY_ONLY.into()), ..Options::default() };
    let mut alice = Softphone::open(&stack, "Alice", options);
    alice.set_processing(false);
    alice.dial("*43");
    alice.wait_active();
    alice.hear_tone(440, 4.0, 5).assert_only("Alice", 440, &[1_400]);
    assert_eq!(alice.evaluate(LOCAL_KIND), "relay");
    alice.hang_up();
    alice.wait_for(&browser::text("You ended the call."), offhook_tests::wait::secs(5));
    assert!(coturn.log().contains("ALLOCATE processed, success"), "{}", coturn.log());
}
