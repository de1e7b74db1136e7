//! The dependency graph as `cargo metadata` tells it.
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

#[derive(Debug, Clone, Default)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub licence: Option<String>,
    pub source: Option<String>,
    /// Folder relative to the workspace, for our own crates.
    pub folder: Option<String>,
    /// Names of direct, normal (not dev, not build) dependencies.
    pub normal: BTreeSet<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Graph {
    pub ours: BTreeMap<String, Package>,
    /// Everything that stands in a binary of ours: reached from our crates over normal and build dependencies.
    pub shipped: Vec<Package>,
}

impl Graph {
    pub fn load(root: &Path) -> Result<Self> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"]);
        let text = crate::output(cargo.current_dir(root))?;
        let mut graph = Self::parse(&serde_json::from_str(&text)?, root)?;
        // `metadata` also lists optional dependencies behind weak features (`ring?/alloc`); `tree` knows better.
        let real = built(root, &graph)?;
        graph.shipped.retain(|p| real.contains(&(p.name.clone(), p.version.clone())));
        Ok(graph)
    }

    pub fn parse(metadata: &Value, root: &Path) -> Result<Self> {
        let members: BTreeSet<&str> = strings(&metadata["workspace_members"]).collect();
        let mut by_id = BTreeMap::new();
        for package in metadata["packages"].as_array().context("no packages")? {
            let id = package["id"].as_str().context("no id")?;
            by_id.insert(id, describe(package, members.contains(id), root));
        }
        let mut edges: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array().context("no resolve")? {
            let id = node["id"].as_str().context("no id")?;
            let deps = node["deps"].as_array().into_iter().flatten();
            let shipped = deps.filter(|dep| {
                dep["dep_kinds"].as_array().into_iter().flatten().any(|kind| kind["kind"].as_str() != Some("dev"))
            });
            edges.insert(id, shipped.filter_map(|dep| dep["pkg"].as_str()).collect());
        }
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        let starts =
            members.iter().filter(|id| by_id.get(**id).is_some_and(|p| !NOT_SHIPPED.contains(&p.name.as_str())));
        let mut open: Vec<&str> = starts.copied().collect();
        while let Some(id) = open.pop() {
            if reached.insert(id) {
                open.extend(edges.get(id).into_iter().flatten().copied());
            }
        }
        let ours = by_id.iter().filter(|(id, _)| members.contains(**id));
        Ok(Self {
            ours: ours.map(|(_, p)| (p.name.clone(), p.clone())).collect(),
            shipped: reached.iter().filter_map(|id| by_id.get(id)).filter(|p| p.folder.is_none()).cloned().collect(),
        })
    }
}

/// What tests and measures, and never leaves the house.
const NOT_SHIPPED: [&str; 5] = ["offhook-tests", "offhook-benches", "offhook-fuzzing", "offhook-testkit", "xtask"];

/// Name and version of every crate that a build of our binaries compiles.
fn built(root: &Path, graph: &Graph) -> Result<BTreeSet<(String, String)>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["tree", "--locked", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"]);
    for name in graph.ours.keys().filter(|name| !NOT_SHIPPED.contains(&name.as_str())) {
        cargo.args(["--package", name]);
    }
    let text = crate::output(cargo.current_dir(root))?;
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.trim_start_matches('v').to_owned()))
    };
    Ok(text.lines().filter_map(parse).collect())
}

fn describe(package: &Value, ours: bool, root: &Path) -> Package {
    let text = |key: &str| package[key].as_str().map(str::to_owned);
    let manifest = text("manifest_path").unwrap_or_default();
    let folder = Path::new(&manifest).parent().and_then(|p| p.strip_prefix(root).ok());
    let normal = package["dependencies"].as_array().into_iter().flatten();
    Package {
        name: text("name").unwrap_or_default(),
        version: text("version").unwrap_or_default(),
        licence: text("license"),
        source: text("source"),
        folder: if ours { folder.map(|p| p.to_string_lossy().into_owned()) } else { None },
        normal: normal
            .filter(|dep| dep["kind"].is_null())
            .filter_map(|dep| dep["name"].as_str().map(str::to_owned))
            .collect(),
    }
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_dev_dependency_is_not_shipped() {
        let dep = |pkg: &str, kind: Value| json!({"pkg": pkg, "dep_kinds": [{"kind": kind}]});
        let package = |name: &str| json!({"id": name, "name": name, "version": "1.0.0", "manifest_path": format!("/w/{name}/Cargo.toml"), "dependencies": []});
        let metadata = json!({
            "workspace_members": ["a"],
            "packages": [package("a"), package("b"), package("c")],
            "resolve": {"nodes": [
                {"id": "a", "deps": [dep("b", Value::Null), dep("c", json!("dev"))]},
                {"id": "b", "deps": []}, {"id": "c", "deps": []},
            ]},
        });
        let graph = Graph::parse(&metadata, Path::new("/w")).unwrap();
        assert_eq!(graph.ours.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(graph.shipped.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["b"]);
    }
}
