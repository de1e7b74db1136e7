//! `cipher-list`: OpenSSL's names of TLS 1.2 suites, and of classes of them, to those that are spoken here.
//!
//! Every one of ours exchanges keys by ephemeral elliptic curves and seals with an AEAD. A list says nothing of TLS 1.3,
//! as for OpenSSL, unless it names its suites.
use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite;

/// What a list amounts to.
#[derive(Debug, Clone, PartialEq)]
pub struct Ciphers {
    /// In the order of the list, TLS 1.3 before.
    pub suites: Vec<SupportedCipherSuite>,
    /// What was asked for and is not spoken.
    pub unknown: Vec<String>,
}

struct Named {
    name: &'static str,
    suite: SupportedCipherSuite,
    /// OpenSSL's classes that hold it, beside `COMMON`.
    classes: &'static [&'static str],
}

const COMMON: [&str; 11] =
    ["ALL", "DEFAULT", "HIGH", "ECDHE", "EECDH", "kECDHE", "kEECDH", "ECDH", "AEAD", "TLSv1.2", "FIPS"];

static TLS12: [Named; 6] = [
    Named {
        name: "ECDHE-ECDSA-AES256-GCM-SHA384",
        suite: cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        classes: &["ECDSA", "aECDSA", "AES", "AES256", "AESGCM", "SUITEB192", "SUITEB128"],
    },
    Named {
        name: "ECDHE-RSA-AES256-GCM-SHA384",
        suite: cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        classes: &["RSA", "aRSA", "AES", "AES256", "AESGCM"],
    },
    Named {
        name: "ECDHE-ECDSA-CHACHA20-POLY1305",
        suite: cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        classes: &["ECDSA", "aECDSA", "CHACHA20"],
    },
    Named {
        name: "ECDHE-RSA-CHACHA20-POLY1305",
        suite: cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        classes: &["RSA", "aRSA", "CHACHA20"],
    },
    Named {
        name: "ECDHE-ECDSA-AES128-GCM-SHA256",
        suite: cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        classes: &["ECDSA", "aECDSA", "AES", "AES128", "AESGCM", "SUITEB128", "SUITEB128ONLY"],
    },
    Named {
        name: "ECDHE-RSA-AES128-GCM-SHA256",
        suite: cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        classes: &["RSA", "aRSA", "AES", "AES128", "AESGCM"],
    },
];

static TLS13: [(&str, SupportedCipherSuite); 3] = [
    ("TLS_AES_256_GCM_SHA384", cipher_suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_AES_128_GCM_SHA256", cipher_suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_CHACHA20_POLY1305_SHA256", cipher_suite::TLS13_CHACHA20_POLY1305_SHA256),
];

impl Named {
    /// `ECDHE+AESGCM` is what both hold.
    fn is_in(&self, word: &str) -> bool {
        let holds = |class: &str| {
            let is = |name: &&str| name.eq_ignore_ascii_case(class);
            is(&self.name) || COMMON.iter().any(is) || self.classes.iter().any(is)
        };
        word.split('+').all(holds)
    }
}

impl Ciphers {
    /// Reads a list by OpenSSL's rules: `:` between words; `!` forbids for good, `-` takes out, `+` moves to the end.
    #[must_use]
    pub fn of(list: &str) -> Self {
        let (mut chosen, mut forbidden): (Vec<&Named>, Vec<&Named>) = (Vec::new(), Vec::new());
        let (mut newest, mut unknown) = (Vec::new(), Vec::new());
        for word in list.split([':', ',', ' ', ';']).filter(|word| !word.is_empty() && !word.starts_with('@')) {
            let (sign, rest) = match word.split_at_checked(1) {
                Some((sign @ ("!" | "-" | "+"), rest)) => (sign, rest),
                _ => ("", word),
            };
            if let Some((_, suite)) = TLS13.iter().find(|(name, _)| name.eq_ignore_ascii_case(rest)) {
                newest.push(*suite);
                continue;
            }
            let meant: Vec<&Named> = TLS12.iter().filter(|named| named.is_in(rest)).collect();
            let is_meant = |named: &&Named| meant.iter().any(|one| one.name == named.name);
            match sign {
                "!" => {
                    chosen.retain(|named| !is_meant(named));
                    forbidden.extend(&meant);
                }
                "-" => chosen.retain(|named| !is_meant(named)),
                "+" => {
                    let (moved, kept): (Vec<&Named>, Vec<&Named>) = chosen.into_iter().partition(is_meant);
                    chosen = [kept, moved].concat();
                }
                _ if meant.is_empty() => unknown.push(rest.to_owned()),
                _ => {
                    for named in meant {
                        let is = |one: &&Named| one.name == named.name;
                        if !chosen.iter().any(is) && !forbidden.iter().any(is) {
                            chosen.push(named);
                        }
                    }
                }
            }
        }
        if newest.is_empty() {
            newest = TLS13.iter().map(|(_, suite)| *suite).collect();
        }
        newest.extend(chosen.iter().map(|named| named.suite));
        Self { suites: newest, unknown }
    }

    #[must_use]
    pub fn has_tls12(&self) -> bool {
        self.suites.iter().any(|suite| suite.tls13().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(list: &str) -> Vec<&'static str> {
        let of = Ciphers::of(list).suites;
        let name =
            |suite: &SupportedCipherSuite| TLS12.iter().find(|named| named.suite == *suite).map(|named| named.name);
        of.iter().filter_map(name).collect()
    }

    #[test]
    fn names_and_classes_are_openssls() {
        let both = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"];
        assert_eq!(chosen("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"), both);
        assert_eq!(chosen("ECDHE+AESGCM:!AES256"), both);
        assert_eq!(chosen("EECDH+AESGCM+aRSA:+AES256"), ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"]);
        assert_eq!(chosen("HIGH:!aNULL:!MD5:-CHACHA20").len(), 4);
        assert_eq!(chosen("DEFAULT:@STRENGTH").len(), 6);
        assert_eq!(chosen("!CHACHA20:ALL"), chosen("AESGCM"));
    }

    #[test]
    fn what_is_not_spoken_is_named_unless_it_was_forbidden_anyway() {
        let ciphers = Ciphers::of("DHE-RSA-AES128-GCM-SHA256:AES128-SHA:!aNULL:!RC4:TLS_AES_128_GCM_SHA256");
        assert_eq!(ciphers.unknown, ["DHE-RSA-AES128-GCM-SHA256", "AES128-SHA"]);
        assert!(!ciphers.has_tls12());
        assert_eq!(ciphers.suites, [cipher_suite::TLS13_AES_128_GCM_SHA256]);
        assert_eq!(Ciphers::of("").suites.len(), 3);
    }
}
