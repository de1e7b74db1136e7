//! The twelve files, each as it stands: in a namespace that has the file's addresses, under a root that has the file's
//! paths, with nothing of it changed. A client logs in as the file has it, reaches a peer that the file lets it reach, and
//! is refused one that it does not.
use crate::client::{Client, PATIENCE};
use crate::net::Namespace;
use crate::options::file_of;
use crate::postgres::Postgres;
use crate::rig::{Daemon, Place, certify};
use offhook_turn_core::conf::{Conf, Reading};
use offhook_wire_stun::credentials;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the file lets somebody in.
#[derive(Clone, Copy)]
enum Login {
    /// It names the user.
    User(&'static str, &'static str),
    /// It holds the secret.
    Secret(&'static str),
    /// Its database has the user, put there by coturn's own tool.
    Stored,
    /// Its database has the secret.
    StoredSecret,
    /// It names a database that is not spoken: nobody.
    Nobody,
}

struct Case {
    file: &'static str,
    /// Of the host: the first one is where clients come to.
    at: &'static [&'static str],
    port: u16,
    logins: &'static [Login],
    /// As clients see the relay.
    relayed: &'static str,
    reached: &'static [&'static str],
    refused: &'static [&'static str],
}

const NORTH: Login = Login::Secret("north-star");

static CASES: [Case; 12] = [
    Case {
        file: "bigbluebutton",
        at: &["198.51.100.7"],
        port: 3_478,
        logins: &[NORTH],
        relayed: "198.51.100.7",
        reached: &["192.168.7.7", "9.9.9.9"],
        refused: &["10.1.2.3", "172.31.255.255", "127.0.0.1"],
    },
    Case {
        file: "coturn-postgresql",
        at: &["127.0.0.1"],
        port: 3_478,
        logins: &[Login::Stored],
        relayed: "127.0.0.1",
        reached: &["10.7.7.7"],
        refused: &["127.0.0.9", "169.254.169.254"],
    },
    Case {
        file: "coturn-sqlite-secrets",
        at: &["127.0.0.1"],
        port: 3_478,
        logins: &[Login::StoredSecret, Login::Stored],
        relayed: "127.0.0.1",
        reached: &["127.0.0.9", "10.7.7.7"],
        refused: &["169.254.169.254", "224.0.0.1"],
    },
    Case {
        file: "jitsi-meet",
        at: &["10.5.5.5"],
        port: 3_478,
        logins: &[NORTH],
        relayed: "198.51.100.6",
        reached: &["10.7.7.7", "9.9.9.9"],
        refused: &["192.88.99.1", "127.0.0.1", "240.0.0.1"],
    },
    Case {
        file: "kolab",
        at: &["10.5.5.5"],
        port: 3_478,
        logins: &[Login::Nobody],
        relayed: "198.51.100.2",
        reached: &[],
        refused: &[],
    },
    Case {
        file: "matrix-docker-ansible-deploy",
        at: &["10.5.5.5"],
        port: 3_478,
        logins: &[NORTH],
        relayed: "198.51.100.4",
        reached: &["10.9.8.7", "192.168.7.7"],
        refused: &["10.9.8.8", "0.1.2.3"],
    },
    Case {
        file: "netbird",
        at: &["10.5.5.5"],
        port: 3_478,
        logins: &[Login::User("self", "p=ss word")],
        relayed: "198.51.100.8",
        reached: &["10.7.7.7", "9.9.9.9"],
        refused: &["169.254.169.254", "127.0.0.1"],
    },
    Case {
        file: "nextcloud-talk",
        at: &["198.51.100.3"],
        port: 5_349,
        logins: &[NORTH],
        relayed: "198.51.100.3",
        reached: &["10.1.2.3", "192.168.7.7"],
        refused: &["10.1.2.4", "240.0.0.1"],
    },
    Case {
        file: "nixos",
        at: &["192.0.2.1", "2001:db8::1"],
        port: 3_479,
        logins: &[NORTH],
        relayed: "192.0.2.1",
        reached: &["192.168.7.7"],
        refused: &["10.7.7.7", "239.255.255.250"],
    },
    Case {
        file: "synapse",
        at: &["10.0.0.1"],
        port: 3_478,
        logins: &[NORTH],
        relayed: "198.51.100.9",
        reached: &["9.9.9.9"],
        refused: &["10.0.0.2", "192.168.7.7", "100.64.0.1", "169.254.169.254"],
    },
    Case {
        file: "wire",
        at: &["198.51.100.5"],
        port: 3_478,
        logins: &[NORTH, Login::Secret("old-star")],
        relayed: "198.51.100.5",
        reached: &["10.7.7.7"],
        refused: &["0.1.2.3", "127.0.0.1"],
    },
    Case {
        file: "yunohost",
        at: &["10.5.5.5"],
        port: 5_349,
        logins: &[NORTH, Login::Stored],
        relayed: "10.5.5.5",
        reached: &["10.7.7.7"],
        refused: &["169.254.169.254", "127.0.0.1"],
    },
];

/// What a running file needs for as long as it runs.
struct Running {
    daemon: Daemon,
    host: Namespace,
    conf: Conf,
    _postgres: Option<Postgres>,
}

impl Case {
    fn start(&self) -> Running {
        let text = file_of(self.file);
        let mut reading = Reading::default();
        reading.add_file(text);
        let conf = reading.conf;
        let peers = self.reached.iter().filter(|peer| !peer.starts_with("127."));
        let own = self.at.iter().filter(|ip| !ip.starts_with("127."));
        // Somewhere to go out from, even for a host of loopback.
        let host = Namespace::with_addresses(own.chain(peers).copied());
        let place = Place::new();
        let root = Root::new(&place);
        fs::write(root.made("/etc/turnserver.conf"), text).unwrap();
        if let (Some(chain), Some(key)) = (&conf.cert, &conf.pkey) {
            certify(&root.made(chain), &root.made(key));
        }
        for path in [&conf.pidfile, &conf.log.file].into_iter().flatten().filter(|path| path.starts_with('/')) {
            root.made(path);
        }
        let realm = conf.realm.as_deref().unwrap();
        if let Some(path) = &conf.userdb {
            sqlite(&place, &root.made(path), realm);
        }
        let postgres = conf.psql_userdb.is_some().then(|| host.within(|| postgresql(&host, realm)));
        let ready = root.ready();
        let daemon = Daemon::spawn_silent(place, root.command(&host));
        // As coturn's own unit waits for it: some of the files log nowhere that we hear.
        let mut buffer = [0; 64];
        let length =
            ready.recv(&mut buffer).unwrap_or_else(|error| panic!("{}: {error}: {:?}", self.file, daemon.lines()));
        assert_eq!(&buffer[..length], b"READY=1");
        Running { daemon, host, conf, _postgres: postgres }
    }

    fn server(&self) -> SocketAddr {
        SocketAddr::new(self.at[0].parse().unwrap(), self.port)
    }

    fn log_in(&self, login: Login) -> (Client, String) {
        let rest = |secret: &str| {
            let pair = credentials::mint(secret.as_bytes(), 4_000_000_000, "bob");
            (pair.username, pair.password)
        };
        let (user, password) = match login {
            Login::User(user, password) => (user.to_owned(), password.to_owned()),
            Login::Secret(secret) => rest(secret),
            Login::StoredSecret => rest("stored-star"),
            Login::Stored | Login::Nobody => ("carol".to_owned(), "stored".to_owned()),
        };
        (Client::udp(self.server(), &user, &password), user)
    }

    fn check(&self) {
        let running = self.start();
        running.host.within(|| self.logins.iter().for_each(|login| self.check_login(*login, &running)));
        assert!(!self.logins.is_empty() && running.daemon.proc_file("status").contains("offhook-turn"));
    }

    fn check_login(&self, login: Login, running: &Running) {
        let (mut client, user) = self.log_in(login);
        let file = self.file;
        assert!(client.binding().is_some(), "{file}");
        let challenge = client.challenge().unwrap();
        assert_eq!((challenge.code(), Some(challenge.realm())), (401, running.conf.realm.clone()), "{file}");
        let answer = client.allocate();
        if matches!(login, Login::Nobody) {
            assert_eq!(answer.code(), 401, "{file}");
            running.daemon.wait_for("redis-userdb does nothing here");
            return;
        }
        assert_eq!(answer.code(), 0, "{file}, {user}");
        assert_eq!(answer.relayed().ip(), self.relayed.parse::<IpAddr>().unwrap(), "{file}");
        assert!((running.conf.min_port..=running.conf.max_port).contains(&answer.relayed().port()), "{file}");
        for (number, ip) in (0x4000..).zip(self.reached) {
            let peer = UdpSocket::bind((*ip, 0)).unwrap();
            peer.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(client.bind(number, peer.local_addr().unwrap()), 0, "{file}, {ip}");
            client.send_on(number, b"there");
            let mut buffer = [0; 64];
            let (length, relay) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], relay.port()), (&b"there"[..], answer.relayed().port()), "{file}, {ip}");
            peer.send_to(b"back", relay).unwrap();
            let back = client.receive().unwrap();
            assert_eq!((&back[..2], &back[4..8]), (&number.to_be_bytes()[..], &b"back"[..]), "{file}, {ip}");
        }
        for ip in self.refused {
            let peer = SocketAddr::new(ip.parse().unwrap(), 9);
            assert_eq!((client.permit(peer), client.bind(0x4FFF, peer)), (403, 403), "{file}, {ip}");
        }
        let guess = Client::udp(self.server(), &user, "guess").allocate().code();
        assert_eq!(guess, 401, "{file}");
    }
}

/// This machine's files, and on top of them those that the configuration names.
struct Root {
    upper: PathBuf,
    top: PathBuf,
}

impl Root {
    fn new(place: &Place) -> Self {
        let (top, upper) = (place.path("root"), place.path("upper"));
        fs::create_dir(&top).unwrap();
        fs::create_dir(&upper).unwrap();
        Self { upper, top }
    }

    /// Where the file of this path is to be written: one without a slash beside the configuration.
    fn made(&self, path: &str) -> PathBuf {
        let path = match path.strip_prefix('/') {
            Some(path) => self.upper.join(path),
            None if path.contains('/') => self.upper.join(path),
            None => self.upper.join("etc").join(path),
        };
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// Hears when it serves.
    fn ready(&self) -> UnixDatagram {
        let socket = UnixDatagram::bind(self.made("/notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// The working directory is the root.
    fn command(&self, host: &Namespace) -> Command {
        let script = format!(
            "mount -t tmpfs none '{top}' && cd '{top}' && mkdir up work all && cp -a '{upper}/.' up && \
             mount -t overlay none -o lowerdir=/,upperdir=up,workdir=work all && mount --rbind /dev all/dev && \
             mount -t proc none all/proc && rm all/notify && touch all/notify && mount --bind '{upper}/notify' all/notify && \
             exec chroot all \"$@\"",
            top = self.top.display(),
            upper = self.upper.display(),
        );
        let mut command = host.command("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", &script, "sh"]);
        command.arg(env!("CARGO_BIN_EXE_offhook-turn")).args(["-c", "/etc/turnserver.conf"]);
        command.env("NOTIFY_SOCKET", "/notify");
        command
    }
}

/// coturn's own tool makes the tables, the user and the secret.
fn sqlite(place: &Place, path: &Path, realm: &str) {
    for words in [&["-a", "-u", "carol", "-p", "stored"][..], &["-s", "stored-star"]] {
        let output = Command::new("turnadmin").arg("-b").arg(path).args(["-r", realm]).args(words).output();
        let output = output.expect("turnadmin is not installed (apt install coturn)");
        assert!(output.status.success(), "{}: {}", place.port, String::from_utf8_lossy(&output.stderr));
    }
}

/// Under the name, the user and the port that the file says.
fn postgresql(host: &Namespace, realm: &str) -> Postgres {
    let server = Postgres::start();
    let url = server.url();
    let key = credentials::long_term_key("carol", realm, "stored");
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let psql = |url: &str, sql: &str| {
        let output = Command::new("psql").arg(url).args(["-q", "-v", "ON_ERROR_STOP=1", "-c", sql]).output();
        let output = output.expect("psql is not installed (apt install postgresql-client)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    psql(&url, "CREATE ROLE turn LOGIN PASSWORD 'turn'");
    psql(&url, "CREATE DATABASE coturn OWNER turn");
    let (url, turn) =
        (url.replace("/postgres", "/coturn"), url.replace("offhook@", "turn@").replace("/postgres", "/coturn"));
    assert_ne!(url, turn);
    psql(&turn, crate::database::SCHEMA);
    psql(&turn, &format!("INSERT INTO turnusers_lt VALUES ('{realm}', 'carol', '{key}')"));
    let port = url.rsplit_once(':').unwrap().1.split('/').next().unwrap();
    for words in [
        "add table ip way".to_owned(),
        "add chain ip way out { type nat hook output priority 0 ; }".to_owned(),
        format!("add rule ip way out tcp dport 5432 redirect to :{port}"),
    ] {
        let status = host.command("nft").args(words.split(' ')).status();
        assert!(status.unwrap().success(), "nft {words}");
    }
    server
}

/// All at once: each has a network of its own.
#[test]
fn every_file_runs_as_it_stands_and_lets_in_through_and_out_whom_it_says() {
    let mut known: Vec<&str> = crate::options::names().collect();
    known.retain(|name| !CASES.iter().any(|case| case.file == *name));
    assert!(known.is_empty(), "no case runs {known:?}");
    std::thread::scope(|scope| {
        for case in &CASES {
            scope.spawn(|| case.check());
        }
    });
}

/// "ourselves, for calls that are relayed at both ends": the file's own words.
#[test]
fn synapses_calls_are_relayed_at_both_ends() {
    let case = CASES.iter().find(|case| case.file == "synapse").unwrap();
    let running = case.start();
    running.host.within(|| {
        let mut ends = [case.log_in(NORTH).0, case.log_in(NORTH).0];
        let relayed = ends.each_mut().map(|end| end.allocate().relayed());
        for (number, end) in (0..).zip(&mut ends) {
            assert_eq!(end.bind(0x4000, relayed[1 - number]), 0, "{relayed:?}");
        }
        ends[0].send_on(0x4000, b"there");
        assert_eq!(&ends[1].receive().unwrap()[4..9], b"there");
        ends[1].send_on(0x4000, b"back");
        assert_eq!(&ends[0].receive().unwrap()[4..8], b"back");
    });
}
