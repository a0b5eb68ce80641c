//! House rules as code: which crate may depend on which, and what the sources must not contain.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::shell::{cargo, root};

/// A source file past this many lines has more than one role.
const LINES_MAX: usize = 500;

/// Allowed arrows (see ARCHITECTURE.md): a crate, and what of the workspace it may use.
const ARROWS: [(&str, &[&str]); 11] = [
    ("rollcall-model", &[]),
    ("rollcall-websocket", &[]),
    ("rollcall-stream", &["rollcall-model"]),
    ("rollcall-roster", &["rollcall-model"]),
    ("rollcall-store", &["rollcall-model", "rollcall-stream", "rollcall-roster"]),
    ("rollcall-ingest", &["rollcall-model", "rollcall-stream", "rollcall-websocket"]),
    ("rollcall-analytics", &["rollcall-model", "rollcall-stream", "rollcall-store"]),
    ("rollcall-api", &["rollcall-model", "rollcall-stream", "rollcall-store", "rollcall-analytics", "rollcall-websocket"]),
    (
        "rollcall",
        &[
            "rollcall-model",
            "rollcall-stream",
            "rollcall-roster",
            "rollcall-store",
            "rollcall-ingest",
            "rollcall-analytics",
            "rollcall-api",
            "rollcall-websocket",
        ],
    ),
    // These two look at the product from outside; the synthetic district is input, not the server's inside.
    ("rollcall-bench", &["rollcall-tests"]),
    ("rollcall-tests", &["rollcall-roster"]),
];

/// Text that must not stand in product code, and why.
const FORBIDDEN: [(&str, &str); 5] = [
    ("unbounded_channel", "every queue has a named limit"),
    ("todo!(", "a half-built thing is not called done"),
    ("unimplemented!(", "a half-built thing is not called done"),
    ("dbg!(", "left-over debugging"),
    ("#[ignore", "no test is ignored"),
];

/// The folders of product code; the rules' own words would find themselves in xtask.
const FOLDERS: [&str; 9] = ["model", "stream", "websocket", "roster", "store", "ingest", "analytics", "api", "server"];

pub fn check() -> Result<()> {
    let mut findings = arrows()?;
    findings.extend(sources()?);
    for finding in &findings {
        eprintln!("rule: {finding}");
    }
    if !findings.is_empty() {
        bail!("{} house rules are broken", findings.len());
    }
    println!("house rules: kept");
    Ok(())
}

fn arrows() -> Result<Vec<String>> {
    let output = cargo(["metadata", "--format-version", "1", "--no-deps", "--locked"]).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output).context("cargo metadata printed no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if name == "xtask" {
            continue;
        }
        let Some(allowed) = allowed.get(name) else {
            findings.push(format!("{name} has no line in the table of allowed arrows"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            // Tests may look at what they like; only what ships must keep the direction.
            if names.contains(used) && dependency["kind"].is_null() && !allowed.contains(&used) {
                findings.push(format!("{name} must not use {used}"));
            }
        }
    }
    Ok(findings)
}

fn sources() -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for folder in FOLDERS {
        for path in rust_files(&root().join(folder))? {
            let text = fs::read_to_string(&path)?;
            let shown = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
            let lines = text.lines().count();
            if lines > LINES_MAX {
                findings.push(format!("{shown} has {lines} lines; split it by role below {LINES_MAX}"));
            }
            for (forbidden, why) in FORBIDDEN {
                if let Some(line) = text.lines().position(|line| line.contains(forbidden)) {
                    findings.push(format!("{shown}:{} contains {forbidden:?}: {why}", line + 1));
                }
            }
        }
    }
    Ok(findings)
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}
