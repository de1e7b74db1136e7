//! What browsers are told of a TURN server, made from `[turn]`.
use super::{Net, Turn, TurnCertificate};
use std::net::{IpAddr, SocketAddr};

impl Turn {
    /// What a browser is told whose page has this host name (`phone.example.org`, `203.0.113.5`, `[2001:db8::5]`), or
    /// with `None` whatever its page.
    ///
    /// Our own listeners, under `host` or their public addresses. A wildcard without either, and TLS, whose certificate
    /// has a name, go by the page's host. A listener on loopback is told to pages on loopback only.
    #[must_use]
    pub fn urls(&self, net: &Net, page: Option<&str>) -> Vec<String> {
        if !self.urls.is_empty() || !self.enabled {
            return self.urls.clone();
        }
        let page = page.filter(|host| is_host(host));
        let scheme = if self.protocol.stun_only { "stun" } else { "turn" };
        let mut urls = Vec::new();
        for host in self.listen.iter().flat_map(|bound| self.hosts(net, *bound, page)) {
            let transports = [("udp", self.protocol.udp), ("tcp", self.protocol.tcp)];
            for (transport, _) in transports.into_iter().filter(|(_, is_spoken)| *is_spoken) {
                // RFC 7064 §3.1: a STUN URI names no transport.
                urls.push(match self.protocol.stun_only {
                    true => format!("stun:{host}"),
                    false => format!("turn:{host}?transport={transport}"),
                });
            }
        }
        if let Some(name) = self.certified_name(page) {
            let bound = if self.tls_listen.is_empty() { &self.listen } else { &self.tls_listen };
            for bound in bound.iter().filter(|bound| is_for(**bound, page)) {
                let transport = if self.protocol.stun_only { "" } else { "?transport=tcp" };
                urls.push(format!("{scheme}s:{name}:{}{transport}", bound.port()));
            }
        }
        let mut seen = std::collections::HashSet::new();
        urls.retain(|url| seen.insert(url.clone()));
        urls
    }

    /// What the certificate is for, as far as that is known.
    fn certified_name<'a>(&'a self, page: Option<&'a str>) -> Option<&'a str> {
        let domains = match self.certificate.as_ref()? {
            TurnCertificate::Acme { domains, .. } => domains.as_slice(),
            TurnCertificate::Files { .. } => &[],
        };
        let is_domain =
            |page: &&str| domains.is_empty() || domains.iter().any(|domain| domain.eq_ignore_ascii_case(page));
        let host = Some(self.host.as_str()).filter(|host| !host.is_empty());
        host.or(page.filter(is_domain)).or(domains.first().map(String::as_str))
    }

    /// `host:port` of a listener, as a browser can reach it.
    fn hosts(&self, net: &Net, bound: SocketAddr, page: Option<&str>) -> Vec<String> {
        if !is_for(bound, page) {
            return Vec::new();
        }
        let with_port = |host: &str| format!("{host}:{}", bound.port());
        if bound.ip().is_loopback() {
            return vec![bound.to_string()];
        }
        if !self.host.is_empty() {
            return vec![with_port(&self.host)];
        }
        let announced = net.announced_all(bound);
        match announced.is_empty() {
            true => page.map(with_port).into_iter().collect(),
            false => announced.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Whether a page of this host is told of a listener.
fn is_for(bound: SocketAddr, page: Option<&str>) -> bool {
    !bound.ip().is_loopback() || page.is_none_or(is_loopback_host)
}

/// Whether a URL of ours leads to loopback, which only pages on loopback are told of.
#[must_use]
pub fn leads_to_loopback(url: &str) -> bool {
    let rest = url.split_once(':').map_or(url, |(_, rest)| rest);
    let rest = rest.split('?').next().unwrap_or_default();
    let host = match rest.find(']') {
        Some(end) => rest.get(..=end).unwrap_or_default(),
        None => rest.split(':').next().unwrap_or_default(),
    };
    is_loopback_host(host)
}

/// Whether this is a host as a URL writes it, and nothing else.
pub(super) fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(Some(v6)) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        Some(None) => false,
        None => {
            (1..=253).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        }
    }
}

/// `localhost`, `127.0.0.1`, `[::1]`.
#[must_use]
pub fn is_loopback_host(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::super::ConfigFile;

    fn file(text: &str) -> ConfigFile {
        ConfigFile::parse("offhook.toml", text, []).unwrap()
    }

    fn urls(text: &str, page: Option<&str>) -> Vec<String> {
        let file = file(text);
        file.turn().unwrap().urls(&file.net().unwrap(), page)
    }

    #[test]
    fn a_name_of_its_own_stands_for_every_listener_but_those_on_loopback() {
        let text = "[tls]\ncertificate = \"a\"\nkey = \"b\"\n[turn]\nhost = \"turn.example.org\"\n\
            listen = [\"0.0.0.0:3478\", \"127.0.0.1:3479\", \"[::]:3478\"]\ntls_listen = \"0.0.0.0:443\"\n";
        let expected = [
            "turn:turn.example.org:3478?transport=udp",
            "turn:turn.example.org:3478?transport=tcp",
            "turns:turn.example.org:443?transport=tcp",
        ];
        assert_eq!(urls(text, Some("203.0.113.5")), expected);
        assert_eq!(urls(text, None)[2], "turn:127.0.0.1:3479?transport=udp");
        assert!(super::leads_to_loopback(&urls(text, None)[2]) && !super::leads_to_loopback(expected[0]));
        for (url, here) in
            [("turn:[::1]:1?transport=udp", true), ("turns:localhost:1", true), ("turn:[2001::1]:1", false)]
        {
            assert_eq!(super::leads_to_loopback(url), here, "{url}");
        }
    }

    #[test]
    fn under_acme_tls_goes_by_a_name_that_the_certificate_is_for() {
        let text = "[tls]\nacme_domains = [\"phone.example.org\", \"calls.example.org\"]\n[turn]\nlisten = \"192.0.2.5:3478\"\n";
        for (page, name) in [
            ("calls.example.org", "calls.example.org"),
            ("192.0.2.5", "phone.example.org"),
            ("other.org", "phone.example.org"),
        ] {
            assert_eq!(urls(text, Some(page))[2], format!("turns:{name}:3478?transport=tcp"), "{page}");
        }
        assert_eq!(urls(text, None)[2], "turns:phone.example.org:3478?transport=tcp");
        assert_eq!(urls(&format!("{text}tls = false\n"), Some("phone.example.org")).len(), 2);
    }

    #[test]
    fn only_what_is_spoken_is_told() {
        let listen = "[turn]\nlisten = \"192.0.2.5:3478\"\n";
        assert_eq!(urls(&format!("{listen}udp = false\n"), None), ["turn:192.0.2.5:3478?transport=tcp"]);
        assert_eq!(urls(&format!("{listen}tcp = false\n"), None), ["turn:192.0.2.5:3478?transport=udp"]);
        assert_eq!(urls(&format!("{listen}stun_only = true\n"), None), ["stun:192.0.2.5:3478"]);
        // A certificate from files says nothing of its name.
        let files = "certificate = \"a\"\nkey = \"b\"\n";
        assert_eq!(urls(&format!("{listen}{files}"), None).len(), 2);
    }

    #[test]
    fn browsers_are_told_addresses_that_they_can_reach() {
        let open = "[net]\npublic_addresses = [{ public = \"203.0.113.5\", local = \"10.0.0.5\" }]\n";
        let listen = "[turn]\nlisten = [\"0.0.0.0:3478\"]\n";
        assert_eq!(
            urls(&format!("{open}{listen}"), Some("phone.example.org")),
            ["turn:203.0.113.5:3478?transport=udp", "turn:203.0.113.5:3478?transport=tcp"]
        );
        let files = "[tls]\ncertificate = \"a\"\nkey = \"b\"\n";
        assert_eq!(
            urls(&format!("{open}{files}{listen}tls_listen = \"10.0.0.5:443\"\n"), Some("phone.example.org")).last(),
            Some(&"turns:phone.example.org:443?transport=tcp".to_owned())
        );
        assert_eq!(urls(listen, Some("[2001:db8::5]"))[0], "turn:[2001:db8::5]:3478?transport=udp");
        // Nothing that a header says gets into a URL unless it is a host.
        assert!(urls(listen, Some("a?transport=udp")).is_empty());
        assert!(urls(listen, None).is_empty());
        assert_eq!(urls("", Some("localhost"))[0], "turn:127.0.0.1:3478?transport=udp");
        assert!(urls("", Some("phone.example.org")).is_empty());
        assert!(urls("[turn]\nenabled = false\n", Some("localhost")).is_empty());
    }
}
