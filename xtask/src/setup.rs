//! Installs what the machine lacks: Debian and Ubuntu by apt-get, macOS by brew; elsewhere it names what is missing.
//! What is there already is left alone, so a second run is quick and needs no network.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::node;
use crate::shell::{command, has, root};

/// Something the product or its tests need of the machine.
struct Need {
    what: &'static str,
    there: fn() -> bool,
    apt: &'static [&'static str],
    brew: &'static [&'static str],
}

const POSTGRES: Need =
    Need { what: "PostgreSQL 15 or newer (initdb, postgres)", there: postgres_there, apt: &["postgresql"], brew: &["postgresql@17"] };
const NODE: Need = Need { what: "Node.js with npm", there: || has("node") && has("npm"), apt: &["nodejs", "npm"], brew: &["node"] };
const MOSQUITTO: Need = Need {
    what: "mosquitto_pub, a foreign MQTT client",
    there: || has("mosquitto_pub"),
    apt: &["mosquitto-clients"],
    brew: &["mosquitto"],
};
const MOSQUITTO_SERVER: Need = Need {
    what: "mosquitto, an MQTT server to compare with",
    there: || server_there("mosquitto"),
    apt: &["mosquitto"],
    brew: &["mosquitto"],
};
const NATS_SERVER: Need = Need {
    what: "nats-server, an MQTT server to compare with",
    there: || server_there("nats-server"),
    apt: &["nats-server"],
    brew: &["nats-server"],
};
/// Only the system that the clock of a running server can be set on.
const FAKETIME: Need = Need {
    what: "libfaketime, which sets the clock of one process",
    there: || !cfg!(target_os = "linux") || faketime_there(),
    apt: &["libfaketime"],
    brew: &["libfaketime"],
};
/// The JDBC driver where packages put it; `tests/jdbc` names the same places.
const JDBC_DRIVER: &str = "/usr/share/java/postgresql.jar";
const JAVA: Need =
    Need { what: "a Java compiler, version 17 or newer", there: java_there, apt: &["default-jdk-headless"], brew: &["openjdk"] };
const JDBC: Need = Need {
    what: "the JDBC driver of PostgreSQL (/usr/share/java/postgresql.jar, or where ROLLCALL_TEST_JDBC says)",
    there: || Path::new(JDBC_DRIVER).is_file() || std::env::var_os("ROLLCALL_TEST_JDBC").is_some_and(|path| Path::new(&path).is_file()),
    apt: &["libpostgresql-jdbc-java"],
    brew: &[],
};
const PYTHON: Need = Need { what: "Python 3 with venv", there: python_there, apt: &["python3", "python3-venv"], brew: &["python"] };
const CHROMIUM: Need =
    Need { what: "Chromium", there: chromium_there, apt: &["chromium", "fonts-dejavu-core"], brew: &["--cask", "chromium"] };

fn postgres_there() -> bool {
    has("initdb") && has("postgres")
        || ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"]
            .iter()
            .any(|parent| fs::read_dir(parent).is_ok_and(|entries| entries.flatten().any(|entry| entry.path().join("bin/initdb").exists())))
}

/// Debian puts servers where a user's PATH does not look.
fn server_there(name: &str) -> bool {
    has(name) || ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"].iter().any(|dir| Path::new(dir).join(name).is_file())
}

fn faketime_there() -> bool {
    let there = |entry: fs::DirEntry| entry.path().join("faketime/libfaketime.so.1").exists();
    fs::read_dir("/usr/lib").is_ok_and(|entries| entries.flatten().any(there))
}

/// Debian has the interpreter without the part of it that makes environments.
fn python_there() -> bool {
    std::process::Command::new("python3").args(["-c", "import ensurepip, venv"]).status().is_ok_and(|status| status.success())
}

/// A runtime alone runs no source file. On a Mac `java` may be a program that says there is none.
fn java_there() -> bool {
    std::process::Command::new("javac").arg("--version").output().is_ok_and(|output| output.status.success())
}

fn chromium_there() -> bool {
    has("chromium") || Path::new("/Applications/Chromium.app").exists()
}

/// What `cargo xtask demo` needs: the database, and Node for the dashboard.
pub fn for_demo() -> Result<()> {
    install(&[POSTGRES, NODE])?;
    node::recent()?;
    npm_install("dashboard")?;
    build_dashboard()
}

/// What `cargo xtask bench` needs: the product, and what it is compared with.
pub fn for_bench() -> Result<()> {
    for_demo()?;
    install(&[MOSQUITTO_SERVER, NATS_SERVER, PYTHON])?;
    python_install("bench/sql")
}

/// What `cargo xtask test` needs.
pub fn for_tests(browser: bool) -> Result<()> {
    install(&[POSTGRES, NODE, MOSQUITTO, FAKETIME, PYTHON, JAVA, JDBC])?;
    node::recent()?;
    npm_install("dashboard")?;
    npm_install("tests/timescale")?;
    python_install("tests/s3")?;
    python_install("tests/adbc")?;
    if browser {
        install(&[CHROMIUM])?;
        npm_install("tests/browser")?;
    }
    build_dashboard()
}

fn build_dashboard() -> Result<()> {
    command("npm").args(["run", "--silent", "build"]).dir("dashboard").run()
}

fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.iter().map(|need| need.what).collect::<Vec<_>>().join("; ");
    eprintln!("missing on this machine: {names}");
    if has("apt-get") {
        let packages = missing.iter().flat_map(|need| need.apt);
        let privileged = |args: &[&str]| if is_root() { command(args[0]).args(&args[1..]) } else { command("sudo").args(args) };
        if !is_root() && !has("sudo") {
            bail!("missing: {names}. Install as root: apt-get install {}", packages.copied().collect::<Vec<_>>().join(" "));
        }
        privileged(&["apt-get", "update", "--quiet"]).run()?;
        privileged(&["apt-get", "install", "--yes", "--quiet", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .run()?;
    } else if has("brew") {
        // What brew has no package of is named below.
        for need in missing.iter().filter(|need| !need.brew.is_empty()) {
            command("brew").arg("install").args(need.brew).run()?;
        }
    } else {
        bail!("missing: {names}. Neither apt-get nor brew is here to install it; please install it and run this again");
    }
    match missing.iter().find(|need| !(need.there)()) {
        Some(need) => bail!("{} is still missing after the installation; please install it and run this again", need.what),
        None => Ok(()),
    }
}

/// SAFETY of the call inside: geteuid has no preconditions and cannot fail.
fn is_root() -> bool {
    unsafe { libc::geteuid() == 0 }
}

/// The packages of `requirements.txt` into an environment of their own, unless they are what was installed last.
fn python_install(folder: &str) -> Result<()> {
    let dir = root().join(folder);
    let wanted = fs::read_to_string(dir.join("requirements.txt"))?;
    let stamp = dir.join(".venv/.installed-requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    command("python3").args(["-m", "venv", ".venv"]).dir(folder).run()?;
    command(dir.join(".venv/bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"])
        .dir(folder)
        .run()?;
    fs::write(stamp, wanted)?;
    Ok(())
}

/// `npm ci`, unless the lock file is the one that was installed last, by the same Node.js: npm leaves out optional packages
/// that do not run on the version it has, the build tool's own binaries among them.
fn npm_install(folder: &str) -> Result<()> {
    let dir = root().join(folder);
    let lock = fs::read_to_string(dir.join("package-lock.json"))?;
    let (major, minor) = node::version()?;
    let wanted = format!("node {major}.{minor}\n{lock}");
    let stamp = dir.join("node_modules/.installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    command("npm").args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).dir(folder).run()?;
    fs::create_dir_all(dir.join("node_modules"))?;
    fs::write(stamp, wanted)?;
    Ok(())
}
