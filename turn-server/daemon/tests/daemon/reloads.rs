//! SIGHUP: what of `[turn]` acts at once.
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_secrets_and_peers_are_taken_over_while_it_runs() {
    let stage = Stage::with("secrets = [\"north\"]\n").await;
    let media = sfu();
    let named = |secret: &str| stage.log_in_under(secret, "u", 600).unwrap();
    let mut client = named("north");
    client.allocate().unwrap();
    assert!(named("south").allocate().is_err());
    let more = format!("secrets = [\"south\", \"north\"]\nmedia_peers = [\"{media}\"]\n");
    stage.switch.reload(file(&more, &stage.folder));
    until("the peer stays closed", || client.bind(CHANNEL, media).is_ok()).await;
    assert_eq!(echo(&client), b"HELLO");
    let mut south = named("south");
    south.allocate().unwrap();
    // A secret that is taken away takes its sessions with it.
    assert_eq!(stage.sessions(None).await.total, 2);
    stage.switch.reload(file("secrets = [\"south\"]\n", &stage.folder));
    until("the session under the old secret goes on", || client.refresh(600).is_err()).await;
    south.refresh(600).unwrap();
    assert_eq!(stage.sessions(None).await.total, 1);
    assert!(!stage.folder.path().join("turn.secret").exists(), "one was chosen");
}

/// Without users nobody could be left; with them, and without call-control beside it, there need be no secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_secret_that_is_taken_away_opens_nothing_and_ends_its_sessions() {
    const USERS: &str = "users = [{ name = \"pbx\", password = \"p\" }]\n";
    for shared in [false, true] {
        let stage = Stage::start(&format!("secrets = [\"north\"]\n{USERS}"), shared).await;
        let mut north = stage.log_in_under("north", "u", 600).unwrap();
        north.allocate().unwrap();
        let mut pbx = TurnClient::log_in(stage.address, "pbx", "p").unwrap();
        pbx.allocate().unwrap();
        stage.switch.reload(file(USERS, &stage.folder));
        until("the session under the old secret goes on", || north.refresh(600).is_err()).await;
        assert!(stage.log_in_under("north", "u", 600).unwrap().allocate().is_err(), "shared: {shared}");
        pbx.refresh(600).unwrap();
        assert_eq!(stage.sessions(None).await.total, 1);
        // call-control mints under the one that it finds there.
        assert_eq!(stage.folder.path().join("turn.secret").exists(), shared);
        if shared {
            stage.allocated("u");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_could_log_in_any_more_the_old_secrets_stay_and_the_rest_is_taken_over() {
    let stage = Stage::start("secrets = [\"north\"]\n", false).await;
    let mut client = stage.log_in_under("north", "u", 600).unwrap();
    client.allocate().unwrap();
    let media = sfu();
    stage.switch.reload(file(&format!("media_peers = [\"{media}\"]\n"), &stage.folder));
    until("the peer stays closed", || client.bind(CHANNEL, media).is_ok()).await;
    assert_eq!(echo(&client), b"HELLO");
    stage.log_in_under("north", "u", 600).unwrap().allocate().unwrap();
    assert!(!stage.folder.path().join("turn.secret").exists());
}

/// Beside the network that the other stories share: in one of its own, this program runs this story again. Needs root.
#[test]
fn an_address_that_the_host_is_given_later_is_shut_too() {
    const INSIDE: &str = "OFFHOOK_STORY_INSIDE";
    let shell = |words: &str| std::process::Command::new("sh").args(["-ec", words]).status().unwrap();
    if std::env::var_os(INSIDE).is_none() {
        let story = "reloads::an_address_that_the_host_is_given_later_is_shut_too";
        let program = std::env::current_exe().unwrap();
        let script = format!("exec unshare --net {} --exact {story} --nocapture", program.display());
        let output = std::process::Command::new("sh").args(["-ec", &script]).env(INSIDE, "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert!(shell("ip link set lo up").success());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let stage = Stage::with("allowed_peers = [\"198.51.100.0/24\"]\n").await;
        let mut client = stage.allocated("alice");
        // In the range of the gateway's RTP.
        let later = "198.51.100.9:20000".parse().unwrap();
        client.bind(CHANNEL, later).unwrap();
        assert!(shell("ip addr add 198.51.100.9/32 dev lo").success());
        until("the new address stays open", || client.bind(CHANNEL, later).is_err()).await;
        assert!(client.bind(CHANNEL + 1, later).unwrap_err().to_string().contains("403"));
        client.bind(CHANNEL + 1, "198.51.100.8:20000".parse().unwrap()).unwrap();
    });
}
