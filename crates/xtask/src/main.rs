//! `cargo xtask tidy`: the checks that keep ARCHITECTURE.md true. Offline; exits non-zero with every finding named.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
mod arrows;
mod graph;
mod licences;
mod sources;

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => tidy(),
        _ => bail!("usage: cargo xtask tidy"),
    }
}

fn tidy() -> Result<()> {
    let root = workspace_root()?;
    let graph = graph::Graph::load(&root)?;
    let mut findings = Vec::new();
    findings.extend(arrows::check(&graph));
    findings.extend(licences::check(&graph));
    let (source_findings, report) = sources::check(&root, &graph)?;
    findings.extend(source_findings);
    println!("{report}");
    if findings.is_empty() {
        println!("tidy: nothing to say");
        return Ok(());
    }
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    bail!("{} findings", findings.len())
}

fn workspace_root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(Path::to_path_buf).context("crates/xtask lies two folders below the workspace")
}

/// Standard output of a command that must succeed.
fn output(command: &mut Command) -> Result<String> {
    let done = command.output().with_context(|| format!("could not start {command:?}"))?;
    if !done.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    String::from_utf8(done.stdout).context("output is not UTF-8")
}
