//! Chromium's own protocol over a pipe: JSON, each message ended by a zero byte.
//!
//! A pipe rather than a port, because Chromium ends when its pipe does: also when this process is killed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};

use crate::Result;

/// More than any command takes, starting up included.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Pipe {
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    last: u64,
}

impl Pipe {
    pub(crate) fn new(to: ChildStdin, from: ChildStdout) -> Self {
        Self { to, from: BufReader::new(from), last: 0 }
    }

    /// One command, of the browser or of one of its pages, and its result. Events are passed over.
    pub(crate) async fn call(
        &mut self,
        page: Option<&str>,
        method: &str,
        params: Value,
    ) -> Result<Value> {
        self.last += 1;
        let mut command = json!({ "id": self.last, "method": method, "params": params });
        if let (Some(page), Some(command)) = (page, command.as_object_mut()) {
            command.insert("sessionId".to_owned(), page.into());
        }
        let answered = tokio::time::timeout(LIMIT, self.exchange(command)).await;
        let mut answer = answered.map_err(|_| format!("chromium did not answer {method}"))??;
        if let Some(error) = answer.get("error") {
            return Err(format!("chromium refused {method}: {error}").into());
        }
        Ok(answer.get_mut("result").map(Value::take).unwrap_or_default())
    }

    async fn exchange(&mut self, command: Value) -> Result<Value> {
        self.to.write_all(format!("{command}\0").as_bytes()).await?;
        loop {
            let mut message = Vec::new();
            self.from.read_until(0, &mut message).await?;
            if message.pop() != Some(0) {
                return Err("chromium went away".into());
            }
            let message: Value = serde_json::from_slice(&message)?;
            if message.get("id").and_then(Value::as_u64) == Some(self.last) {
                return Ok(message);
            }
        }
    }
}
