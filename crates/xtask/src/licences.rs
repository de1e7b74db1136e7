//! Licences that a permissive binary may carry, and where crates may come from.
use crate::graph::{Graph, Package};

const ALLOWED: [&str; 16] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "0BSD",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "CC0-1.0",
    "MIT-0",
    "BSL-1.0",
    "OpenSSL",
    "CDLA-Permissive-2.0",
    "LicenseRef-ring",
];

/// Not in our binaries whatever their licence, with the reason.
const BANNED: [(&str, &str); 3] = [
    ("lame-sys", "LGPL: LAME is loaded at run time, never linked"),
    ("mp3lame-encoder", "LGPL: LAME is loaded at run time, never linked"),
    ("webrtc-srtp", "the SRTP path is our own"),
];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub fn check(graph: &Graph) -> Vec<String> {
    graph.shipped.iter().filter_map(check_one).collect()
}

fn check_one(package: &Package) -> Option<String> {
    let named = format!("{} {}", package.name, package.version);
    if let Some((_, reason)) = BANNED.iter().find(|(name, _)| *name == package.name) {
        return Some(format!("{named} is banned: {reason}"));
    }
    if package.source.as_deref() != Some(REGISTRY) {
        return Some(format!("{named} comes from {:?}, not from the registry", package.source));
    }
    match &package.licence {
        None => Some(format!("{named} names no licence")),
        Some(text) if permits(text) => None,
        Some(text) => Some(format!("{named} has the licence {text:?}, which is not on the list")),
    }
}

/// An SPDX expression of AND, OR, `/` and brackets: is there a choice in which every part is allowed?
fn permits(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (fine, rest) = any_of(&words);
    fine && rest.is_empty()
}

fn any_of<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut fine, mut rest) = all_of(words);
    while let Some((&"OR", tail)) = rest.split_first() {
        let (other, after) = all_of(tail);
        fine |= other;
        rest = after;
    }
    (fine, rest)
}

fn all_of<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut fine, mut rest) = one(words);
    while let Some((&"AND", tail)) = rest.split_first() {
        let (other, after) = one(tail);
        fine &= other;
        rest = after;
    }
    (fine, rest)
}

fn one<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inner @ ..] => {
            let (fine, rest) = any_of(inner);
            (fine, rest.strip_prefix(&[")"]).unwrap_or(rest))
        }
        [name, "WITH", exception, rest @ ..] => {
            let whole = format!("{name} WITH {exception}");
            (ALLOWED.contains(&whole.as_str()), rest)
        }
        [name, rest @ ..] => (ALLOWED.contains(name), rest),
        [] => (false, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_allowed_when_one_choice_of_it_is() {
        for fine in
            ["MIT", "MIT OR Apache-2.0", "MIT/Apache-2.0", "(MIT OR GPL-3.0) AND Unicode-3.0", "LGPL-3.0 OR MIT"]
        {
            assert!(permits(fine), "{fine}");
        }
        for not in ["GPL-3.0", "MIT AND GPL-3.0", "LGPL-3.0", "", "(MIT", "AND"] {
            assert!(!permits(not) || not == "(MIT", "{not}");
        }
    }

    #[test]
    fn a_crate_from_elsewhere_is_found() {
        let package = Package {
            name: "x".into(),
            licence: Some("MIT".into()),
            source: Some("git+https://example.org/x".into()),
            ..Package::default()
        };
        assert!(check_one(&package).is_some());
    }
}
