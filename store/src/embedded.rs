//! A private PostgreSQL in the data folder, for installations without a database of their own and for tests.
//!
//! The server is one that is installed on the machine (15 or newer). It listens on a Unix socket only, in a folder
//! that nobody else may enter, runs with fsync on, and keeps everything below `<dir>/postgres`:
//! `data` (the cluster), `run` (the socket), `log` (its messages).
//!
//! PostgreSQL refuses to run as root, so root starts it as another user ([`SERVER_USERS`], the first that exists),
//! which must be able to reach the folder. A server that outlived a killed program is found by its pid file and adopted.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::embedded_size::Machine;

/// Users that root tries to start PostgreSQL as.
const SERVER_USERS: [&str; 3] = ["postgres", "_postgres", "nobody"];

/// Oldest major version whose SQL the migrations use.
pub const VERSION_MIN: u32 = 15;

/// The longest a start or a stop may take.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest path of a Unix socket, with the name PostgreSQL gives it, that every supported system accepts.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// The role that owns the database; only migrations act as it.
const OWNER: &str = "rollcall";

#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error(
        "no PostgreSQL {VERSION_MIN} or newer was found. Install it (Debian/Ubuntu: apt-get install postgresql; macOS: brew install postgresql), \
         or name an existing server with --database-url"
    )]
    NotInstalled,
    #[error("PostgreSQL does not run as root, and none of the users {SERVER_USERS:?} exists to run it as; start rollcall as another user")]
    NoServerUser,
    #[error(
        "PostgreSQL runs as user {user} here, who cannot enter {}: choose a data folder that every user may pass through, such as \
         /var/lib/rollcall, or start rollcall as the owner of that folder", path.display()
    )]
    Unreachable { user: String, path: PathBuf },
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
    #[error("{program} failed: {output}")]
    Failed { program: &'static str, output: String },
    #[error("PostgreSQL did not accept connections within {} s; the end of its log: {log}", START_TIMEOUT.as_secs())]
    Timeout { log: String },
}

fn io_error(doing: impl Into<String>) -> impl FnOnce(io::Error) -> EmbeddedError {
    let doing = doing.into();
    move |source| EmbeddedError::Io { doing, source }
}

/// Where the installed server's programs are.
#[derive(Clone, Debug)]
pub struct Installation {
    pub bin: PathBuf,
    pub version: u32,
    /// Whether the timescaledb extension can be loaded.
    pub timescale: bool,
}

impl Installation {
    /// The newest PostgreSQL of at least [`VERSION_MIN`] on this machine.
    pub fn find() -> Result<Self, EmbeddedError> {
        let mut candidates: Vec<PathBuf> = Vec::new();
        if let Some(path) = std::env::var_os("PATH") {
            candidates.extend(std::env::split_paths(&path));
        }
        for parent in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/usr/pgsql"] {
            let Ok(entries) = fs::read_dir(parent) else { continue };
            candidates.extend(entries.flatten().map(|entry| entry.path().join("bin")));
        }
        candidates
            .into_iter()
            .filter(|bin| bin.join("initdb").exists() && bin.join("postgres").exists())
            .filter_map(|bin| {
                // Distributions put wrappers and links on the PATH; the real folder has the share folder beside it.
                let bin = fs::canonicalize(bin.join("postgres")).ok()?.parent()?.to_path_buf();
                bin.join("initdb").exists().then_some(bin)
            })
            .filter_map(|bin| Some(Self { version: major_version(&bin)?, timescale: offers_timescale(&bin), bin }))
            .filter(|found| found.version >= VERSION_MIN)
            .max_by_key(|found| (found.timescale, found.version))
            .ok_or(EmbeddedError::NotInstalled)
    }
}

fn major_version(bin: &Path) -> Option<u32> {
    let output = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn offers_timescale(bin: &Path) -> bool {
    let Ok(output) = Command::new(bin.join("pg_config")).arg("--sharedir").output() else { return false };
    let share = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Path::new(&share).join("extension/timescaledb.control").exists()
}

/// Who the server runs as: `None` when this process is not root and runs it as itself.
#[derive(Clone)]
struct ServerUser {
    name: String,
    uid: u32,
    gid: u32,
}

fn server_user() -> Result<Option<ServerUser>, EmbeddedError> {
    // SAFETY: geteuid has no preconditions and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Ok(None);
    }
    SERVER_USERS.iter().find_map(|name| lookup_user(name)).map(Some).ok_or(EmbeddedError::NoServerUser)
}

fn lookup_user(name: &str) -> Option<ServerUser> {
    let c_name = CString::new(name).ok()?;
    // SAFETY: `getpwnam` gets a valid C string; its static result is read before any other call could overwrite it,
    // and start-up does not look up users on several threads.
    let entry = unsafe { libc::getpwnam(c_name.as_ptr()).as_ref() }?;
    Some(ServerUser { name: name.to_owned(), uid: entry.pw_uid, gid: entry.pw_gid })
}

/// A running private server. Dropping it stops the server at once (recovery follows at the next start); call
/// [`EmbeddedPostgres::stop`] for an orderly end.
pub struct EmbeddedPostgres {
    installation: Installation,
    user: Option<ServerUser>,
    root: PathBuf,
    run: PathBuf,
    pid: i32,
    stopped: bool,
}

impl EmbeddedPostgres {
    /// Initialises `<dir>/postgres` if it is not there, starts the server, and returns when it accepts connections.
    pub async fn start(dir: &Path) -> Result<Self, EmbeddedError> {
        let dir = dir.to_path_buf();
        tokio::task::spawn_blocking(move || Self::start_blocking(&dir))
            .await
            .map_err(|panic| EmbeddedError::Failed { program: "start", output: panic.to_string() })?
    }

    fn start_blocking(dir: &Path) -> Result<Self, EmbeddedError> {
        let installation = Installation::find()?;
        let user = server_user()?;
        fs::create_dir_all(dir).map_err(io_error(format!("cannot create {}", dir.display())))?;
        let dir = fs::canonicalize(dir).map_err(io_error(format!("cannot open {}", dir.display())))?;
        let root = dir.join("postgres");
        prepare_folders(&dir, &root, user.as_ref())?;
        let run = socket_folder(&root, user.as_ref())?;
        let mut server = Self { installation, user, root, run, pid: 0, stopped: true };
        if !server.data().join("PG_VERSION").exists() {
            server.init_cluster()?;
        }
        server.pid = match server.running_pid() {
            Some(pid) => pid,
            None => server.launch()?,
        };
        server.stopped = false;
        server.wait_ready()?;
        Ok(server)
    }

    /// The URL of the owner: for migrations.
    pub fn url(&self) -> String {
        self.url_of(OWNER)
    }

    /// The URL of the program's own role, which the migrations create.
    pub fn app_url(&self) -> String {
        self.url_of("rollcall_app")
    }

    /// Lets the program connect as its own role, so that it never holds the owner's rights. After the migrations.
    pub async fn admit_app(&self) -> Result<(), sqlx::Error> {
        use sqlx::Connection;
        let mut owner = sqlx::PgConnection::connect(&self.url()).await?;
        sqlx::query("alter role rollcall_app login").execute(&mut owner).await?;
        owner.close().await
    }

    fn url_of(&self, role: &str) -> String {
        socket_url(&self.run, role)
    }

    /// Whether the extension is there to be created.
    pub fn timescale(&self) -> bool {
        self.installation.timescale
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether the server process is there.
    pub fn is_running(&self) -> bool {
        !self.stopped && process_lives(self.pid)
    }

    /// Starts the server again after it ended by itself.
    pub async fn restart(&mut self) -> Result<(), EmbeddedError> {
        tokio::task::block_in_place(|| {
            if self.running_pid().is_none() {
                self.pid = self.launch()?;
            }
            self.wait_ready()
        })
    }

    /// Ends all connections, writes a checkpoint and waits for the end, bounded by [`STOP_TIMEOUT`].
    pub async fn stop(mut self) {
        let pid = self.pid;
        self.stopped = true;
        let ended = tokio::task::spawn_blocking(move || end_process(pid, libc::SIGINT, STOP_TIMEOUT)).await;
        if !matches!(ended, Ok(true)) {
            signal(pid, libc::SIGQUIT);
        }
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    fn command(&self, program: &str) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(self.installation.bin.join(program));
        // The caller's folder may be closed to the server's user.
        command.current_dir(&self.root).env("LC_ALL", "C").stdin(Stdio::null());
        if let Some(user) = &self.user {
            command.uid(user.uid).gid(user.gid);
        }
        // A Ctrl-C at the terminal is for the program, which then stops the server in order.
        command.process_group(0);
        command
    }

    fn init_cluster(&self) -> Result<(), EmbeddedError> {
        let output = self
            .command("initdb")
            .args(["--username", OWNER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--data-checksums", "--pgdata"])
            .arg(self.data())
            .output()
            .map_err(io_error("cannot run initdb"))?;
        if !output.status.success() {
            // A half-made cluster would be taken for a whole one at the next start.
            let _ = fs::remove_dir_all(self.data());
            return Err(EmbeddedError::Failed { program: "initdb", output: String::from_utf8_lossy(&output.stderr).trim().to_owned() });
        }
        Ok(())
    }

    /// The pid of a server that already runs on this cluster, from its pid file.
    fn running_pid(&self) -> Option<i32> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        let pid: i32 = text.lines().next()?.trim().parse().ok()?;
        // After a reboot the number may belong to something else.
        let owner = fs::metadata(self.data()).ok()?.uid();
        (process_lives(pid) && process_owner(pid).is_none_or(|uid| uid == owner) && self.socket().exists()).then_some(pid)
    }

    fn socket(&self) -> PathBuf {
        self.run.join(".s.PGSQL.5432")
    }

    fn launch(&self) -> Result<i32, EmbeddedError> {
        let log_path = self.root.join("log");
        let log = fs::OpenOptions::new().create(true).append(true).open(&log_path).map_err(io_error("cannot open PostgreSQL's log"))?;
        let errors = log.try_clone().map_err(io_error("cannot open PostgreSQL's log"))?;
        let run = self.run.display().to_string();
        let sizes = Machine::of(&self.data()).sizes();
        let mib = |size: u64| format!("{size}MB");
        let (shared_buffers, wal_buffers, wal_max) = (mib(sizes.shared_buffers), mib(sizes.wal_buffers), mib(sizes.wal_max));
        let mut settings = vec![
            ("listen_addresses", ""),
            ("port", "5432"),
            ("unix_socket_directories", run.as_str()),
            ("unix_socket_permissions", "0700"),
            ("fsync", "on"),
            ("full_page_writes", "on"),
            ("max_connections", "60"),
            ("shared_buffers", &shared_buffers),
            ("wal_buffers", &wal_buffers),
            ("max_wal_size", &wal_max),
            // Today's partition only grows: it is vacuumed each time it has doubled, not with every fifth of it.
            ("autovacuum_vacuum_insert_scale_factor", "1"),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
        ];
        if self.installation.timescale {
            settings.push(("shared_preload_libraries", "timescaledb"));
            settings.push(("timescaledb.telemetry_level", "off"));
        }
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).stdout(log).stderr(errors);
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let mut child = command.spawn().map_err(io_error("cannot start postgres"))?;
        let pid =
            i32::try_from(child.id()).map_err(|_| EmbeddedError::Failed { program: "postgres", output: "pid out of range".into() })?;
        // Somebody has to collect the exit status, or the ended server would look alive for ever.
        std::thread::Builder::new()
            .name("postgres-reaper".into())
            .spawn(move || child.wait())
            .map_err(io_error("cannot start a thread"))?;
        Ok(pid)
    }

    fn wait_ready(&self) -> Result<(), EmbeddedError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let ready = self.command("pg_isready").args(["--quiet", "--host"]).arg(&self.run).args(["--dbname", "postgres"]).status();
            if matches!(ready, Ok(status) if status.success()) {
                return Ok(());
            }
            if !process_lives(self.pid) || Instant::now() > deadline {
                return Err(EmbeddedError::Timeout { log: self.log_end() });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log_end(&self) -> String {
        let text = fs::read_to_string(self.root.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for EmbeddedPostgres {
    fn drop(&mut self) {
        if !self.stopped {
            end_process(self.pid, libc::SIGQUIT, Duration::from_secs(5));
        }
    }
}

/// The URL of a role on the private server of a data folder, if one has been started there: for commands that
/// run beside the server.
pub fn running_url(dir: &Path, role: &str) -> Option<String> {
    let root = fs::canonicalize(dir).ok()?.join("postgres");
    let text = fs::read_to_string(root.join("data/postmaster.pid")).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    let run = text.lines().nth(4)?.trim();
    process_lives(pid).then(|| socket_url(Path::new(run), role))
}

fn socket_url(run: &Path, role: &str) -> String {
    let host = run.display().to_string().replace('%', "%25").replace('/', "%2F").replace(' ', "%20");
    format!("postgres://{role}@{host}/postgres")
}

fn prepare_folders(dir: &Path, root: &Path, user: Option<&ServerUser>) -> Result<(), EmbeddedError> {
    for folder in [root.to_path_buf(), root.join("data")] {
        fs::create_dir_all(&folder).map_err(io_error(format!("cannot create {}", folder.display())))?;
        set_mode(&folder, 0o700)?;
        if let Some(user) = user {
            give(&folder, user)?;
        }
    }
    let Some(user) = user else { return Ok(()) };
    // Passing through is enough; nobody gets to list the data folder.
    let mode = fs::metadata(dir).map_err(io_error("cannot read the data folder"))?.mode();
    set_mode(dir, (mode & 0o777) | 0o001)?;
    match dir.ancestors().skip(1).find(|path| !may_enter(path, user)) {
        Some(path) => Err(EmbeddedError::Unreachable { user: user.name.clone(), path: path.to_path_buf() }),
        None => Ok(()),
    }
}

fn may_enter(path: &Path, user: &ServerUser) -> bool {
    let Ok(meta) = fs::metadata(path) else { return true };
    let mode = meta.mode();
    if meta.uid() == user.uid {
        mode & 0o100 != 0
    } else if meta.gid() == user.gid {
        mode & 0o010 != 0
    } else {
        mode & 0o001 != 0
    }
}

/// The socket's folder: below the cluster, or in the system's temporary folder where that path would be too long
/// for a socket. The name is derived from the cluster's, so that commands and restarts find the same.
fn socket_folder(root: &Path, user: Option<&ServerUser>) -> Result<PathBuf, EmbeddedError> {
    let mut run = root.join("run");
    if run.join(".s.PGSQL.5432.lock").as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        let inode = fs::metadata(root).map_err(io_error("cannot read the cluster's folder"))?.ino();
        run = std::env::temp_dir().join(format!("rollcall-{inode:x}"));
    }
    fs::create_dir_all(&run).map_err(io_error(format!("cannot create {}", run.display())))?;
    set_mode(&run, 0o700)?;
    if let Some(user) = user {
        give(&run, user)?;
    }
    Ok(run)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), EmbeddedError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io_error(format!("cannot set the mode of {}", path.display())))
}

fn give(path: &Path, user: &ServerUser) -> Result<(), EmbeddedError> {
    std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).map_err(io_error(format!(
        "cannot give {} to {}",
        path.display(),
        user.name
    )))
}

fn process_lives(pid: i32) -> bool {
    // SAFETY: signal 0 only asks whether the process exists.
    pid > 0 && (unsafe { libc::kill(pid, 0) } == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM))
}

#[cfg(target_os = "linux")]
fn process_owner(pid: i32) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|meta| meta.uid())
}

#[cfg(not(target_os = "linux"))]
fn process_owner(_pid: i32) -> Option<u32> {
    None
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: the pid is that of a server which this program started or adopted.
    unsafe { libc::kill(pid, signal) };
}

fn end_process(pid: i32, how: i32, timeout: Duration) -> bool {
    signal(pid, how);
    let deadline = Instant::now() + timeout;
    while process_lives(pid) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn starts_adopts_and_stops() {
        let dir = tempfile::tempdir().unwrap();
        let first = EmbeddedPostgres::start(dir.path()).await.unwrap();
        assert!(first.is_running());
        let pid = first.pid();
        // As if the program had been killed: nothing stops the server.
        std::mem::forget(first);
        let adopted = EmbeddedPostgres::start(dir.path()).await.unwrap();
        assert_eq!(adopted.pid(), pid, "a living server is adopted, not started twice");
        assert_eq!(running_url(dir.path(), "rollcall"), Some(adopted.url()));
        adopted.stop().await;
        assert!(!process_lives(pid));
        assert_eq!(running_url(dir.path(), "rollcall"), None);
    }
}
