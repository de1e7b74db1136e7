//! Reads our source files: the `//!` line first, no clock, socket, environment or thread call in a pure crate, unsafe
//! only in its places; and reports the sizes of files and functions.
use crate::graph::Graph;
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What a pure crate is told instead of asking. clippy's disallowed lists say the same with types resolved; this
/// finds them in code that clippy does not compile (other cfgs, macros) too.
const IMPURE: [&str; 12] = [
    "Instant::now",
    "SystemTime::now",
    "UNIX_EPOCH",
    "std::net::UdpSocket",
    "std::net::TcpStream",
    "TcpListener",
    "std::env::",
    "thread::spawn",
    "thread::sleep",
    "std::fs::",
    "std::process::",
    "OsRng",
];

const MAY_BE_UNSAFE: [&str; 4] = ["crates/net/", "recorder/daemon/src/ffi", "crates/testkit/src/alloc", "benches/"];

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 60;

pub fn check(root: &Path, graph: &Graph) -> Result<(Vec<String>, String)> {
    let mut findings = Vec::new();
    let mut sizes = Vec::new();
    for package in graph.ours.values() {
        let Some(folder) = package.folder.as_deref() else { continue };
        let pure = folder.starts_with("crates/wire/")
            || folder.ends_with("/core")
            || ["crates/shard", "crates/media", "crates/contract"].contains(&folder);
        if pure && !root.join(folder).join("clippy.toml").exists() {
            findings.push(format!("{folder} is pure and has no clippy.toml with the disallowed lists"));
        }
        for file in rust_files(&root.join(folder))? {
            let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
            let text = fs::read_to_string(&file).with_context(|| format!("could not read {name}"))?;
            findings.extend(check_file(&name, &text, pure));
            sizes.push(measure(name, &text));
        }
    }
    Ok((findings, report(sizes)))
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("could not list {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if path.is_dir() && !["target", "node_modules", "dist"].contains(&name) {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn check_file(name: &str, text: &str, pure: bool) -> Vec<String> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(format!("{name} does not begin with a //! line"));
    }
    let is_test = name.contains("/tests/") || name.ends_with("tests.rs");
    let code: Vec<(usize, &str)> = code_lines(text).collect();
    if pure && !is_test {
        for (number, line) in &code {
            if let Some(word) = IMPURE.iter().find(|w| line.contains(**w)) {
                findings.push(format!("{name}:{number} calls {word} in a pure crate"));
            }
        }
    }
    if !MAY_BE_UNSAFE.iter().any(|place| name.starts_with(place)) {
        let in_a_test_allocator = is_test && text.contains("GlobalAlloc");
        for (number, line) in &code {
            let opens = line
                .split("unsafe ")
                .nth(1)
                .is_some_and(|after| ["{", "fn ", "impl", "extern"].iter().any(|word| after.starts_with(word)));
            if opens && !in_a_test_allocator {
                findings.push(format!("{name}:{number} is unsafe outside its places"));
            }
        }
    }
    findings
}

/// Numbered lines before the file's own test module, without comments.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    lines.filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(at, line)| (at + 1, line))
}

struct Size {
    name: String,
    lines: usize,
    longest: Option<(String, usize)>,
}

fn measure(name: String, text: &str) -> Size {
    let lines = code_lines(text).filter(|(_, line)| !line.trim().is_empty()).count();
    let mut longest: Option<(String, usize)> = None;
    let mut open: Option<(usize, usize, String)> = None;
    for (number, line) in code_lines(text) {
        let indent = line.len() - line.trim_start().len();
        let word = line.trim_start();
        if open.is_none() && word.contains("fn ") && !word.ends_with(';') && !word.ends_with('}') {
            let after = word.split("fn ").nth(1).unwrap_or_default();
            let title = after.split(['(', '<']).next().unwrap_or_default();
            open = Some((number, indent, title.to_owned()));
        } else if let Some((start, at, title)) = &open
            && word == "}"
            && indent == *at
        {
            let length = number - start + 1;
            if longest.as_ref().is_none_or(|(_, most)| length > *most) {
                longest = Some((title.clone(), length));
            }
            open = None;
        }
    }
    Size { name, lines, longest }
}

fn report(mut sizes: Vec<Size>) -> String {
    let total: usize = sizes.iter().map(|s| s.lines).sum();
    let mut text = format!("{} Rust files, {total} lines of code\n", sizes.len());
    sizes.sort_by_key(|s| std::cmp::Reverse(s.lines));
    for size in sizes.iter().filter(|s| s.lines > FILE_LINES) {
        let _ = writeln!(text, "  file over {FILE_LINES} lines: {} {}", size.lines, size.name);
    }
    for size in &sizes {
        if let Some((title, length)) = size.longest.as_ref().filter(|(_, n)| *n > FUNCTION_LINES) {
            let _ = writeln!(text, "  function over {FUNCTION_LINES} lines: {length} {title} in {}", size.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pure_file_that_reads_the_clock_is_found_and_its_tests_may() {
        let text =
            "//! x\nfn f() { let t = Instant::now(); }\n#[cfg(test)]\nmod tests { fn g() { Instant::now(); } }\n";
        assert_eq!(check_file("a/core/src/x.rs", text, true), ["a/core/src/x.rs:2 calls Instant::now in a pure crate"]);
        assert!(check_file("a/daemon/src/x.rs", text, false).is_empty());
    }

    #[test]
    fn a_file_without_its_first_line_and_a_stray_unsafe_are_found() {
        let found = check_file("sfu/daemon/src/x.rs", "fn f() { unsafe { g() } }\n", false);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(check_file("crates/net/src/x.rs", "//! x\nfn f() { unsafe { g() } }\n", false).is_empty());
    }

    #[test]
    fn the_longest_function_is_measured() {
        let size = measure("x.rs".into(), "//! x\nfn a() {\n    1\n}\npub fn b(x: u8) {\n    1;\n    2;\n}\n");
        assert_eq!(size.longest, Some(("b".into(), 4)));
    }
}
