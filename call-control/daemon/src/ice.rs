//! ICE servers for a browser, with TURN credentials that live ten minutes: our own TURN servers, or the one that `[turn]
//! urls` names.
use offhook_contract::{DaemonKind, NodeRow, NodeState, Secret, UnixMs};
use offhook_control_core::UserId;
use offhook_runtime::config::{Net, Turn};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub const TTL_S: u64 = 600;
/// A split deployment in which `[turn]` was written for the TURN server alone.
const NOWHERE: &str = "a TURN server is there, and pages are told of none of its addresses: set turn.listen to what it has \
                       (or turn.urls to its addresses), here as well";
/// Pages are told of one set of addresses, wherever it leads.
const SEVERAL: &str = "several TURN servers are there, and pages are told of the addresses in turn.listen alone: set \
                       turn.urls to those of all, here as well";

const NO_SECRET: &str =
    "a TURN server is there, and nobody is told of it: set turn.secrets to what it has, here as well";
const UNREADABLE: &str = "the TURN server's secret cannot be read: nobody is told of it";

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IceServer {
    pub urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// What browsers are told. Clones share it.
#[derive(Clone)]
pub struct IceServers(Arc<Mutex<Known>>);

struct Known {
    turn: Turn,
    net: Net,
    /// One of our own servers is there and takes new sessions.
    present: bool,
    /// What the operator was told already.
    said: HashSet<&'static str>,
    /// What our own server made, where nobody chose a secret.
    kept: Option<Secret>,
    /// Who gets no credentials.
    disabled: HashSet<UserId>,
    /// Whose credentials must end later than those that were taken back.
    revoked: HashMap<UserId, UnixMs>,
}

impl IceServers {
    pub fn new(turn: Turn, net: Net) -> Self {
        Self(Arc::new(Mutex::new(Known {
            turn,
            net,
            present: false,
            said: HashSet::new(),
            kept: None,
            disabled: HashSet::new(),
            revoked: HashMap::new(),
        })))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration was read again.
    pub fn reload(&self, turn: Turn, net: Net) {
        let mut known = self.known();
        (known.turn, known.net) = (turn, net);
        known.said.clear();
        known.find_secret();
    }

    /// Nobody is told of our own TURN server before it is there.
    pub fn nodes_changed(&self, rows: &[NodeRow]) {
        let ready = rows.iter().filter(|row| row.kind == DaemonKind::Turn && row.state == NodeState::Ready).count();
        let present = ready > 0;
        let mut known = self.known();
        if ready > 1 && known.turn.enabled && known.turn.urls.is_empty() {
            known.warn_once(SEVERAL);
        }
        if present != known.present {
            known.present = present;
            known.find_secret();
        }
    }

    /// Who is disabled, and until when credentials are no good that somebody was given before.
    pub fn keep_from(&self, disabled: HashSet<UserId>, revoked: HashMap<UserId, UnixMs>, now: UnixMs) {
        let mut known = self.known();
        known.disabled = disabled;
        known.revoked.retain(|_, until| *until > now);
        for (user, until) in revoked.into_iter().filter(|(_, until)| *until > now) {
            let known = known.revoked.entry(user).or_insert(until);
            *known = until.max(*known);
        }
    }

    /// What this user is given from now on ends after `until`: what ends by then was taken back.
    pub fn outlive(&self, user: &UserId, until: UnixMs) {
        self.known().revoked.insert(user.clone(), until);
    }

    /// For a page that was reached under this host name. Empty without TURN: our SFUs need none.
    pub fn for_page(&self, page: Option<&str>, user: &UserId, now: UnixMs) -> Vec<IceServer> {
        let mut known = self.known();
        if known.turn.enabled && !known.present {
            return Vec::new();
        }
        // Where the last secret was taken away, the server may make its own after both have read the configuration again.
        if known.secret().is_none() {
            known.find_secret();
        }
        let urls = known.turn.urls(&known.net, page);
        if known.turn.enabled && urls.is_empty() {
            known.warn_once(NOWHERE);
        }
        let (relays, plain): (Vec<String>, Vec<String>) = urls.into_iter().partition(|url| url.starts_with("turn"));
        let mut servers = Vec::new();
        let shut = relays.is_empty() || known.disabled.contains(user);
        if let (Some(secret), false) = (known.secret(), shut) {
            let after = known.revoked.get(user).map_or(0, |until| until.0.div_ceil(1_000) + 1);
            let ends = after.max(now.0 / 1_000 + TTL_S);
            let minted = offhook_wire_stun::credentials::mint(secret.expose().as_bytes(), ends, user.as_str());
            let (username, credential) = (Some(minted.username), Some(minted.password));
            servers.push(IceServer { urls: relays, username, credential });
        }
        if !plain.is_empty() {
            servers.push(IceServer { urls: plain, username: None, credential: None });
        }
        servers
    }
}

impl Known {
    fn warn_once(&mut self, why: &'static str) {
        if self.said.insert(why) {
            tracing::warn!("{why}");
        }
    }

    fn secret(&self) -> Option<&Secret> {
        self.turn.secrets.first().or(self.kept.as_ref())
    }

    /// The server keeps its secret before it announces itself.
    fn find_secret(&mut self) {
        if !self.turn.enabled || !self.present || !self.turn.secrets.is_empty() {
            return;
        }
        match self.turn.read_kept_secret() {
            Ok(Some(secret)) => {
                self.kept = Some(secret);
                self.said.retain(|why| ![NO_SECRET, UNREADABLE].contains(why));
            }
            Ok(None) => self.warn_once(NO_SECRET),
            Err(error) => {
                if self.said.insert(UNREADABLE) {
                    tracing::warn!(%error, "{UNREADABLE}");
                }
            }
        }
    }
}

/// The host of a page's address, without its port.
pub fn page_host(headers: &axum::http::HeaderMap) -> Option<Box<str>> {
    let host = headers.get(axum::http::header::HOST)?.to_str().ok()?;
    let name = match host.find(']') {
        Some(end) => host.get(..=end)?,
        None => host.split(':').next()?,
    };
    (!name.is_empty()).then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_contract::{BootId, NodeId};
    use offhook_runtime::ConfigFile;

    fn servers(text: &str) -> IceServers {
        let file = ConfigFile::parse("offhook.toml", text, []).unwrap();
        IceServers::new(file.turn().unwrap(), file.net().unwrap())
    }

    fn turn_node(state: NodeState) -> NodeRow {
        NodeRow {
            node: NodeId::parse("turn-1").unwrap(),
            kind: DaemonKind::Turn,
            boot: BootId::parse("b").unwrap(),
            version: String::new(),
            started_ms: UnixMs(1),
            state,
            load: 0,
            capacity: 1,
            media_addresses: Vec::new(),
            certificate_fingerprint: None,
            trunks: Vec::new(),
        }
    }

    fn told(servers: &IceServers, page: &str) -> Vec<IceServer> {
        servers.for_page(Some(page), &UserId::new("u"), UnixMs(1_000_000))
    }

    #[test]
    fn our_own_server_is_named_while_it_is_there_under_the_secret_that_it_made() {
        let dir = tempfile::tempdir().unwrap();
        let servers = servers(&format!("[storage]\ndata_dir = \"{}\"\n", dir.path().display()));
        assert!(told(&servers, "localhost").is_empty());
        servers.nodes_changed(&[turn_node(NodeState::Ready)]);
        assert!(told(&servers, "localhost").is_empty(), "without its secret");
        servers.nodes_changed(&[]);
        let path = dir.path().join("turn.secret");
        std::fs::write(&path, "north\n").unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        servers.nodes_changed(&[turn_node(NodeState::Ready)]);
        let found = told(&servers, "localhost");
        assert_eq!(found[0].urls, ["turn:127.0.0.1:3478?transport=udp", "turn:127.0.0.1:3478?transport=tcp"]);
        assert_eq!(found[0].username.as_deref(), Some("1600:u"));
        let password = offhook_wire_stun::credentials::password(b"north", "1600:u");
        assert_eq!(found[0].credential.as_deref(), Some(password.as_str()));
        assert!(servers.known().said.is_empty());
        assert!(told(&servers, "phone.example.org").is_empty(), "loopback is of no use elsewhere");
        assert_eq!(servers.known().said, HashSet::from([NOWHERE]), "the operator hears of it");
        servers.nodes_changed(&[turn_node(NodeState::Draining)]);
        assert!(told(&servers, "localhost").is_empty());
    }

    #[test]
    fn after_the_last_secret_was_taken_away_the_one_is_found_that_the_server_makes_a_moment_later() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let kept = format!("[storage]\ndata_dir = \"{}\"\n", dir.path().display());
        let servers = servers(&format!("{kept}[turn]\nsecrets = [\"north\"]\n"));
        servers.nodes_changed(&[turn_node(NodeState::Ready)]);
        assert!(told(&servers, "localhost")[0].credential.is_some());
        let file = ConfigFile::parse("offhook.toml", &kept, []).unwrap();
        servers.reload(file.turn().unwrap(), file.net().unwrap());
        assert!(told(&servers, "localhost").is_empty());
        let path = dir.path().join("turn.secret");
        std::fs::write(&path, "south\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let password = offhook_wire_stun::credentials::password(b"south", "1600:u");
        assert_eq!(told(&servers, "localhost")[0].credential.as_deref(), Some(password.as_str()));
        assert!(servers.known().said.is_empty());
    }

    #[test]
    fn one_set_of_addresses_for_several_servers_is_warned_of_until_they_are_named() {
        let mut second = turn_node(NodeState::Ready);
        second.node = NodeId::parse("turn-2").unwrap();
        let rows = |second: &NodeRow| [turn_node(NodeState::Ready), second.clone()];
        let listen = "[turn]\nlisten = [\"203.0.113.5:3478\"]\nsecrets = [\"s\"]\n";
        let unnamed = servers(listen);
        unnamed.nodes_changed(&[turn_node(NodeState::Ready)]);
        assert!(unnamed.known().said.is_empty());
        unnamed.nodes_changed(&rows(&second));
        assert_eq!(unnamed.known().said, HashSet::from([SEVERAL]));
        let named = servers(&format!("{listen}urls = [\"turn:a:3478\", \"turn:b:3478\"]\n"));
        named.nodes_changed(&rows(&second));
        assert_eq!((told(&named, "phone.example.org")[0].urls.len(), named.known().said.len()), (2, 0));
        second.state = NodeState::Draining;
        let alone = servers(listen);
        alone.nodes_changed(&rows(&second));
        assert!(alone.known().said.is_empty());
    }

    #[test]
    fn the_first_secret_mints_and_stun_needs_none() {
        let servers =
            servers("[turn]\nenabled = false\nurls = [\"turn:t:1\", \"stun:t:1\"]\nsecrets = [\"new\", \"old\"]\n");
        let found = told(&servers, "localhost");
        let password = offhook_wire_stun::credentials::password(b"new", "1600:u");
        assert_eq!((found[0].urls[0].as_str(), found[0].credential.as_deref()), ("turn:t:1", Some(password.as_str())));
        assert_eq!((found[1].urls[0].as_str(), &found[1].username), ("stun:t:1", &None));
    }

    #[test]
    fn the_disabled_get_no_credentials_and_the_shown_out_get_those_that_are_good_again() {
        let servers = servers("[turn]\nenabled = false\nurls = [\"turn:t:1\"]\nsecrets = [\"s\"]\n");
        let user = UserId::new("u");
        servers.keep_from(HashSet::from([user.clone()]), HashMap::new(), UnixMs(1_000_000));
        assert!(told(&servers, "localhost").is_empty());
        servers.keep_from(HashSet::new(), HashMap::from([(user.clone(), UnixMs(1_620_500))]), UnixMs(1_000_000));
        assert_eq!(told(&servers, "localhost")[0].username.as_deref(), Some("1622:u"));
        servers.keep_from(HashSet::new(), HashMap::new(), UnixMs(1_620_500));
        assert_eq!(told(&servers, "localhost")[0].username.as_deref(), Some("1600:u"));
        servers.outlive(&user, UnixMs(1_630_000));
        assert_eq!(told(&servers, "localhost")[0].username.as_deref(), Some("1631:u"));
    }

    #[test]
    fn a_pages_host_is_its_address_without_the_port() {
        for (host, name) in [
            ("phone.example.org:8443", Some("phone.example.org")),
            ("[2001:db8::5]:443", Some("[2001:db8::5]")),
            ("203.0.113.5", Some("203.0.113.5")),
            (":80", None),
        ] {
            let headers = axum::http::HeaderMap::from_iter([(axum::http::header::HOST, host.parse().unwrap())]);
            assert_eq!(page_host(&headers).as_deref(), name);
        }
    }
}
