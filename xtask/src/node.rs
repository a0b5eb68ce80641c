//! Node.js, recent enough for the dashboard's build. Debian 12 packages version 18, so an older one is helped out by a
//! newer one from the npm registry, in the user's cache folder: nothing of the system is replaced.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::shell::command;

/// The oldest that the build tool runs on: major and minor version.
const OLDEST: (u32, u32) = (20, 19);
/// What is fetched when the machine's own is older.
const FETCHED: &str = "22.23.3";

/// Makes every program started from here on find a Node.js that is recent enough.
pub fn recent() -> Result<()> {
    if version()? >= OLDEST {
        return Ok(());
    }
    let platform = match (env::consts::OS, env::consts::ARCH) {
        ("linux", "x86_64") => "linux-x64",
        ("linux", "aarch64") => "linux-arm64",
        (os, arch) => bail!("Node.js {}.{} or newer is needed; please install it on this {os} {arch} machine", OLDEST.0, OLDEST.1),
    };
    let package = format!("node-{platform}");
    let folder = cache()?.join(format!("node-{FETCHED}"));
    let bin = folder.join("node_modules").join(&package).join("bin");
    if !bin.join("node").is_file() {
        eprintln!("the machine's Node.js is older than {}.{}: fetching {FETCHED} for this project", OLDEST.0, OLDEST.1);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        command("npm")
            .args(["install", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", "--prefix"])
            .arg(&folder)
            .arg(format!("{package}@{FETCHED}"))
            .run()?;
    }
    let old = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(bin).chain(env::split_paths(&old)))?;
    // SAFETY: this program has a single thread, so nobody reads the environment meanwhile.
    unsafe { env::set_var("PATH", path) };
    match version()? {
        version if version >= OLDEST => Ok(()),
        (major, minor) => bail!("the Node.js that was fetched says it is {major}.{minor}"),
    }
}

/// Major and minor version of the Node.js on the PATH.
pub fn version() -> Result<(u32, u32)> {
    let printed = String::from_utf8(command("node").arg("--version").output()?)?;
    parse(&printed).with_context(|| format!("node --version printed {printed:?}"))
}

/// "v20.19.4" is (20, 19).
fn parse(printed: &str) -> Option<(u32, u32)> {
    let mut parts = printed.trim().strip_prefix('v')?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn cache() -> Result<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME names a folder")?.join("rollcall"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read() {
        assert_eq!(parse("v20.19.4\n"), Some((20, 19)));
        assert!(parse("v18.20.4").unwrap() < OLDEST && parse("v22.1.0").unwrap() > OLDEST);
        assert_eq!(parse("20.19.4"), None);
        assert_eq!(parse("v20"), None);
    }
}
