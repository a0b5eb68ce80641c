//! An object store that speaks S3: moto's server, which `cargo xtask setup` installs into `tests/s3/.venv`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Who asks. The server looks at the name of the key and not at the signature.
const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none";

/// The running server; dropping it ends it.
pub struct ObjectStore {
    child: Child,
    address: String,
    bucket: String,
}

impl ObjectStore {
    /// A server with one empty bucket.
    pub async fn start(bucket: &str) -> Result<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("s3/.venv/bin/moto_server");
        let mut child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("moto_server is not installed: cargo xtask setup")?;
        let mut lines = BufReader::new(child.stderr.take().context("no standard error")?).lines();
        let named = |line: &String| line.split_once("Running on http://").map(|(_, address)| address.trim().to_owned());
        let address =
            lines.by_ref().map_while(Result::ok).find_map(|line| named(&line)).context("moto_server does not say where it listens")?;
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let store = Self { child, address, bucket: bucket.to_owned() };
        let made = reqwest::Client::new().put(format!("http://{}/{bucket}", store.address));
        made.header("authorization", SIGNED).send().await?.error_for_status()?;
        Ok(store)
    }

    /// What a program needs in its environment to find the store.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT", format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "key".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ]
    }

    pub async fn read(&self, key: &str) -> Result<Vec<u8>> {
        Ok(self.get(&format!("/{key}")).await?.bytes().await?.to_vec())
    }

    /// The keys of all objects.
    pub async fn keys(&self) -> Result<Vec<String>> {
        let listed = self.get("?list-type=2").await?.text().await?;
        Ok(listed.split("<Key>").skip(1).filter_map(|part| Some(part.split_once("</Key>")?.0.to_owned())).collect())
    }

    async fn get(&self, of_bucket: &str) -> Result<reqwest::Response> {
        let request = reqwest::Client::new().get(format!("http://{}/{}{of_bucket}", self.address, self.bucket));
        Ok(request.header("authorization", SIGNED).send().await?.error_for_status()?)
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
