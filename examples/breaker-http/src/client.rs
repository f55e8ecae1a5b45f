//! A plain HTTP/1.1 client: one request, one connection, nothing hidden.

use std::fmt;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Result;

/// More than any answer of the demo.
const LIMIT: u64 = 64 * 1024;

/// What of an answer matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u64>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        self.retry_after.map_or(Ok(()), |seconds| write!(f, " Retry-After: {seconds}"))
    }
}

/// `GET path`.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(LIMIT).read_to_string(&mut answer).await?;
    parse(&answer)
}

fn parse(answer: &str) -> Result<Answer> {
    let (head, _) = answer.split_once("\r\n\r\n").ok_or("an answer without an end of its head")?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3));
    let status = status.ok_or("an answer without a status")?.parse()?;
    let retry_after = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("retry-after"))
        .map(|(_, seconds)| seconds.trim().parse())
        .transpose()?;
    Ok(Answer { status, retry_after })
}
