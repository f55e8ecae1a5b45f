//! A client's connection: one line asked, one line answered, or silence when the server is killed.

use std::path::Path;

use resurge_testkit::Failure;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::kinds::State;

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Token(String),
    Back(Back),
    Saved(u64),
    Done,
    /// With the class of the error.
    Refused(String),
}

/// A session that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Back {
    pub(super) token: String,
    pub(super) version: u64,
    pub(super) subject: String,
    pub(super) state: State,
}

impl Answer {
    fn parse(line: &str) -> Result<Self, Failure> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match *words {
            ["token", token] => Self::Token(token.to_owned()),
            ["saved", version] => Self::Saved(version.parse()?),
            ["done"] => Self::Done,
            ["refused", class] => Self::Refused(class.to_owned()),
            ["back", token, version, subject, client, counter, canary] => Self::Back(Back {
                token: token.to_owned(),
                version: version.parse()?,
                subject: subject.to_owned(),
                state: State {
                    client: client.parse()?,
                    counter: counter.parse()?,
                    canary: canary.to_owned(),
                },
            }),
            _ => return Err(format!("the server answered `{line}`").into()),
        })
    }

    /// Without tokens, for what is told to people.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Token(_) => "a token".to_owned(),
            Self::Back(back) => format!("{:?} of {}", back.state, back.subject),
            Self::Saved(version) => format!("saved as version {version}"),
            Self::Done => "done".to_owned(),
            Self::Refused(class) => class.clone(),
        }
    }

    pub(super) fn is_refused(&self, classes: &[&str]) -> bool {
        matches!(self, Self::Refused(class) if classes.contains(&class.as_str()))
    }
}

/// Nobody answers any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence;

#[derive(Debug)]
pub(super) struct Wire {
    stream: BufReader<UnixStream>,
    /// A server whose store failed is as good as gone.
    disk_fails: bool,
}

impl Wire {
    pub(super) async fn connect(socket: &Path, disk_fails: bool) -> Result<Self, Silence> {
        let stream = UnixStream::connect(socket).await.map_err(|_| Silence)?;
        Ok(Self { stream: BufReader::new(stream), disk_fails })
    }

    pub(super) async fn ask(&mut self, what: &str) -> Result<Answer, Silence> {
        let asked = self.stream.write_all(format!("{what}\n").as_bytes()).await;
        asked.map_err(|_| Silence)?;
        let mut line = String::new();
        self.stream.read_line(&mut line).await.map_err(|_| Silence)?;
        // Cut short by the kill: not said.
        let line = line.strip_suffix('\n').ok_or(Silence)?;
        // What cannot be read is no answer anybody expects.
        let answer = Answer::parse(line).unwrap_or_else(|e| Answer::Refused(e.to_string()));
        let failed = self.disk_fails && answer.is_refused(&["store", "closed"]);
        if failed { Err(Silence) } else { Ok(answer) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let state = State { client: 3, counter: 4, canary: "c".to_owned() };
        let (token, subject) = ("st1.A".to_owned(), "s".to_owned());
        let back = Back { token: token.clone(), version: 2, subject, state };
        for (line, answer) in [
            ("token st1.A", Answer::Token(token)),
            ("back st1.A 2 s 3 4 c", Answer::Back(back)),
            ("saved 7", Answer::Saved(7)),
            ("done", Answer::Done),
            ("refused replayed", Answer::Refused("replayed".to_owned())),
        ] {
            assert_eq!(Answer::parse(line).unwrap(), answer);
            assert!(!answer.shown().contains("st1."));
        }
        for bad in ["", "saved", "saved many", "back st1.A 2 s x 4 c", "hello"] {
            assert!(Answer::parse(bad).is_err(), "{bad}");
        }
    }
}
