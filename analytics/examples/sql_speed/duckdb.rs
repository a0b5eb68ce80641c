//! DuckDB beside the engine: a Python process that answers each line of SQL with the milliseconds that it took.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Result;

const PROGRAM: &str = r#"
import sys, time, duckdb
files, threads = sys.argv[1], int(sys.argv[2])
db = duckdb.connect()
db.execute(f"set threads = {threads}")
db.execute("set timezone = 'UTC'")
db.execute("set enable_progress_bar = false")
db.execute(f"create view telemetry as select * from read_parquet('{files}', hive_partitioning = false)")
print(duckdb.__version__, flush=True)
for line in sys.stdin:
    begun = time.perf_counter()
    rows = len(db.execute(line).fetchall())
    print((time.perf_counter() - begun) * 1e3, rows, flush=True)
"#;

pub struct DuckDb {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub version: String,
}

impl DuckDb {
    /// `python` has the package duckdb; `files` is a glob.
    pub fn start(python: &str, files: &str, threads: usize) -> Result<Self> {
        let mut child =
            Command::new(python).args(["-c", PROGRAM, files, &threads.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or("the child has an input")?;
        let mut output = BufReader::new(child.stdout.take().ok_or("the child has an output")?);
        let mut version = String::new();
        output.read_line(&mut version)?;
        Ok(Self { child, input, output, version: version.trim().to_owned() })
    }

    pub fn ask(&mut self, sql: &str) -> Result<(f64, usize)> {
        writeln!(self.input, "{}", sql.replace('\n', " "))?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let (ms, rows) = line.trim().split_once(' ').ok_or_else(|| format!("DuckDB did not answer {sql}"))?;
        Ok((ms.parse()?, rows.parse()?))
    }
}

impl Drop for DuckDb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
