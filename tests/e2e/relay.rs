//! Browsers that reach the stack through a TURN server only, ours or another's, with credentials from call-control.
use offhook_tests::browser::{Options, label, role, text};
use offhook_tests::stack::{Plan, TENANT};
use offhook_tests::trunk::{TELEPHONE, Trunk};
use offhook_tests::wait::secs;
use offhook_tests::{Baresip, Browser, Coturn, Namespace, Softphone, Stack, sound, story};

/// As a firewall would have it: only relayed candidates, by those of the offered servers that `__way` names.
const RELAY_ONLY: &str = "(() => { const Own = window.RTCPeerConnection; window.__peers = []; \
    window.RTCPeerConnection = class extends Own { constructor(config) { \
    const servers = config.iceServers.map((s) => ({ ...s, \
        urls: [s.urls].flat().filter((u) => (window.__way ?? /./).test(u)) })).filter((s) => s.urls.length > 0); \
    super({ ...config, iceServers: servers, iceTransportPolicy: 'relay' }); window.__peers.push(this); } }; })()";
/// The same window on the connection, without choosing for it.
const WATCHED: &str = "(() => { const Own = window.RTCPeerConnection; window.__peers = []; \
    window.RTCPeerConnection = class extends Own { constructor(config) { super(config); window.__peers.push(this); } }; })()";
/// What the chosen pair's own end is, and how it reaches its relay.
const LOCAL_END: &str = "(async () => { const rows = [...(await window.__peers.at(-1).getStats()).values()]; \
    const pair = rows.find((r) => r.type === 'candidate-pair' && r.nominated && r.state === 'succeeded'); \
    const own = rows.find((r) => r.id === pair?.localCandidateId); \
    return own ? `${own.candidateType} ${own.relayProtocol ?? ''}`.trim() : 'none'; })()";

/// The three ways, and which of the offered addresses are theirs.
const WAYS: [(&str, &str); 3] = [("udp", "/^turn:.*udp$/"), ("tcp", "/^turn:.*tcp$/"), ("tls", "/^turns:/")];

fn behind_a_firewall(wav: std::path::PathBuf) -> Options {
    Options { wav: Some(wav), listen: true, before: Some(RELAY_ONLY.into()), ..Options::default() }
}

#[test]
fn a_browser_that_may_only_relay_telephones_over_udp_tcp_and_tls() {
    story(|| {
        let trunk = Trunk::on_loopback();
        let stack = Stack::up(&Plan { config: trunk.config(), ..Plan::default() });
        let wav = sound::tone_file(stack.folder.path(), 440, sound::BROWSER_RATE, 120);
        let mut alice = Softphone::open(&stack, "Alice", behind_a_firewall(wav));
        alice.set_processing(false);
        for (way, servers) in WAYS {
            let folder = stack.folder.path().join(way);
            std::fs::create_dir(&folder).unwrap();
            let telephone = sound::tone_file(&folder, 620, sound::TELEPHONE_RATE, 60);
            let callee = Baresip::start(&folder, trunk.port, &telephone, true);
            alice.evaluate(&format!("void (window.__way = {servers})"));
            let handed_before = stack.figure("turn", "turn_handed_over_total", "");
            alice.dial(TELEPHONE);
            alice.wait_active();
            alice.hear_tone(620, 2.0, 5).assert_only("Alice", 620, &[440, 1_400]);
            assert_eq!(alice.evaluate(LOCAL_END), format!("relay {way}"));
            alice.hang_up();
            alice.wait_idle();
            callee.wait_call_closed();
            let heard = callee.heard().from_onset(440, 2.0).but_last(0.5);
            assert!(heard.seconds() >= 4.0, "{way}: the telephone heard {:.1} s", heard.seconds());
            heard.assert_only("the telephone", 440, &[620, 1_400]);
            // SFU and TURN share a thread: nothing between them took a socket.
            let handed = stack.figure("turn", "turn_handed_over_total", "") - handed_before;
            assert!(handed > 300.0, "{way}: {handed} datagrams handed over");
        }
    });
}

#[test]
fn a_browser_whose_udp_is_blocked_gets_through_by_tls() {
    story(|| {
        let firewalled = Namespace::without_udp();
        let stack = Stack::up(&Plan { address: Some(firewalled.outside), ..Plan::default() });
        // As in a hotel: what is not TLS is not let out.
        firewalled.let_only_out(&[stack.web_port, stack.turn_tls_port]);
        let (fine, words) = stack.offhook_saying(
            &["user", "add", "--tenant", TENANT, "carol", "--extension", "103"],
            "a long password\na long password\n",
        );
        assert!(fine, "{words}");
        let options = Options {
            wav: Some(sound::tone_file(stack.folder.path(), 440, sound::BROWSER_RATE, 120)),
            listen: true,
            before: Some(WATCHED.into()),
            namespace: Some(firewalled.name.clone()),
            ..Options::default()
        };
        let mut browser = Browser::launch_with("Carol", options);
        browser.open(&stack.url());
        browser.fill(&label("User name"), "carol");
        browser.fill(&label("Password"), "a long password");
        browser.click(&role("button", "Sign in"));
        browser.wait_for(&text("Connected"), secs(15));
        let mut carol = Softphone::of(browser);
        carol.set_processing(false);
        carol.dial("*43");
        carol.wait_active();
        carol.hear_tone(440, 4.0, 5).assert_only("Carol", 440, &[1_400]);
        assert_eq!(carol.evaluate(LOCAL_END), "relay tls");
        assert!(firewalled.dropped() > 0, "the browser did not even try by UDP");
        carol.hang_up();
        carol.wait_idle();
    });
}

#[test]
fn a_browser_behind_a_firewall_hears_itself_through_coturn() {
    story(|| {
        let folder = tempfile::tempdir().unwrap();
        let coturn = Coturn::start(folder.path());
        let stack = Stack::up(&Plan { turn: Some(coturn.config()), ..Plan::default() });
        let wav = sound::tone_file(folder.path(), 440, sound::BROWSER_RATE, 120);
        let mut alice = Softphone::open(&stack, "Alice", behind_a_firewall(wav));
        alice.set_processing(false);
        alice.dial("*43");
        alice.wait_active();
        alice.hear_tone(440, 4.0, 5).assert_only("Alice", 440, &[1_400]);
        assert_eq!(alice.evaluate(LOCAL_END), "relay udp");
        alice.hang_up();
        alice.wait_for(&text("You ended the call."), secs(5));
        assert!(coturn.log().contains("ALLOCATE processed, success"), "{}", coturn.log());
    });
}
