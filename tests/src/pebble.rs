//! Debian's pebble, an ACME authority that validates for real: its names come from `pebble-challtestsrv`, which puts every
//! host on loopback.
use crate::process::Process;
use crate::{https, ports, wait};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug)]
pub struct Pebble {
    folder: PathBuf,
    port: u16,
    management: u16,
    /// Signs pebble's own HTTPS certificate, as an internal authority's would be.
    ca_pem: String,
    /// The authority and its names.
    processes: Option<[Process; 2]>,
}

impl Pebble {
    /// Its ports and its certificate, so that it can be named before it runs.
    pub fn prepare(folder: &Path) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        for (name, pem) in [("ca.pem", authority.pem()), ("own.pem", own.pem()), ("own.key", key.serialize_pem())] {
            std::fs::write(folder.join(name), pem).unwrap();
        }
        let (port, management) = (ports::free(), ports::free());
        Self { folder: folder.to_path_buf(), port, management, ca_pem: authority.pem(), processes: None }
    }

    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// The lines of `[tls]` for certificates of this authority.
    pub fn config(&self, domain: &str) -> String {
        let (directory, ca) = (self.directory(), self.folder.join("ca.pem"));
        format!(
            "acme_domains = [\"{domain}\"]\nacme_directory = \"{directory}\"\nacme_ca_file = \"{}\"\n",
            ca.display()
        )
    }

    /// Runs, and validates hosts at their port `tls_port`; its certificates hold for `validity_s`.
    pub fn start(&mut self, tls_port: u16, validity_s: u64) {
        let (names, names_management) = (ports::free(), ports::free());
        let listen = |port: u16| format!("127.0.0.1:{port}");
        let config = json!({ "pebble": {
            "listenAddress": listen(self.port),
            "managementListenAddress": listen(self.management),
            "certificate": self.folder.join("own.pem"),
            "privateKey": self.folder.join("own.key"),
            "httpPort": ports::free(),
            "tlsPort": tls_port,
            "certificateValidityPeriod": validity_s,
        }});
        let file = self.folder.join("pebble.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut dns = Command::new("pebble-challtestsrv");
        dns.args(["-dns01", &listen(names), "-management", &listen(names_management), "-defaultIPv6", ""]);
        dns.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        let mut authority = Command::new("pebble");
        authority.arg("-config").arg(&file).args(["-dnsserver", &listen(names)]);
        // It has no pauses and refuses no good nonce of its own accord: the story is not about chance.
        authority.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
        self.processes = Some([
            Process::start("pebble", &self.folder, &mut authority),
            Process::start("pebble-challtestsrv", &self.folder, &mut dns),
        ]);
        wait::until("pebble", wait::secs(10), || https::get(self.port, "localhost", &self.ca_pem, "/dir").map(drop));
    }

    pub fn stop(&mut self) {
        self.processes = None;
    }

    /// PEM of the root that signs what this run of it issues.
    #[track_caller]
    pub fn root(&self) -> String {
        https::get(self.management, "localhost", &self.ca_pem, "/roots/0").unwrap().body
    }

    /// How many certificates were ordered.
    pub fn orders(&self) -> usize {
        let log = std::fs::read_to_string(self.folder.join("pebble.log")).unwrap_or_default();
        log.matches("POST /order-plz -> calling handler()").count()
    }
}
