//! A signed-in person's HTTP client.

use anyhow::{Context, Result, bail};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

#[derive(Clone)]
pub struct Session {
    client: Client,
    base: String,
    /// The session cookie as it stands in a Cookie header, for clients that are not this one.
    pub cookie: String,
}

impl Session {
    pub async fn sign_in(base: &str, email: &str, password: &str) -> Result<Self> {
        let client = Client::builder().build()?;
        let response = client.post(format!("{base}/api/v1/session")).json(&json!({"email": email, "password": password})).send().await?;
        let status = response.status();
        let cookie = response.headers().get("set-cookie").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        if !status.is_success() {
            bail!("sign-in of {email}: {status}: {}", response.text().await?);
        }
        let cookie = cookie.split(';').next().filter(|text| !text.is_empty()).context("no session cookie")?.to_owned();
        Ok(Self { client, base: base.to_owned(), cookie })
    }

    pub async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value)> {
        let mut request = self.client.request(method, format!("{}/api/v1{path}", self.base)).header("cookie", &self.cookie);
        // What a browser sends with a request of the page's own.
        request = request.header("sec-fetch-site", "same-origin");
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        self.expect_success(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.expect_success(Method::POST, path, Some(body)).await
    }

    async fn expect_success(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, value) = self.request(method.clone(), path, body).await?;
        if !status.is_success() {
            bail!("{method} {path}: {status}: {value}");
        }
        Ok(value)
    }
}
