//! The control API of a host's daemon, called without a program in between.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::host::Host;

/// Longest wait for more of an answer.
const DEADLINE: Duration = Duration::from_secs(20);

impl Host {
    /// One call that must succeed; returns what it says.
    pub fn call(&self, method: &str, path: &str, request: &Value) -> Result<Value> {
        let mut stream = UnixStream::connect(self.socket()).context("connect to the daemon")?;
        stream.set_read_timeout(Some(DEADLINE)).context("set a deadline")?;
        let body = request.to_string();
        let len = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: meshd\r\nconnection: close\r\n");
        let all = format!("{head}content-type: application/json\r\ncontent-length: {len}\r\n\r\n{body}");
        stream.write_all(all.as_bytes()).context("ask the daemon")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("read the daemon's answer")?;
        let json = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        ensure!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        serde_json::from_str(json).with_context(|| format!("read {answer}"))
    }
}
