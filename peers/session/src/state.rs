//! What sessions and tokens carry: the same typed state, 256 bytes of CBOR, for everybody.

use std::error::Error;

use resurge_store::Codec;
use serde::{Deserialize, Serialize};

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Changed for each save that is to write; its length stays.
    pub turn: u32,
    pub user: String,
    pub items: Vec<u32>,
    pub note: String,
}

impl State {
    pub fn new(turn: u32) -> Self {
        let note =
            "what was typed into the form before the connection was lost, and not sent yet; ";
        let mut note = note.repeat(2);
        note.truncate(NOTE);
        Self {
            turn: 0x0100_0000 + turn,
            user: "user-4711@example.org".to_owned(),
            items: (0x0001_0000..0x0001_0010).collect(),
            note,
        }
    }

    pub fn encode(&self) -> Result<Vec<u8>> {
        Ok(Codec::Cbor.encode(self)?)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Ok(Codec::Cbor.decode(bytes)?)
    }

    pub fn to_json(&self) -> Result<Vec<u8>> {
        Ok(Codec::Json.encode(self)?)
    }

    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        Ok(Codec::Json.decode(bytes)?)
    }
}

const NOTE: usize = 124;

/// What the texts about it say.
pub fn check() -> Result<()> {
    let len = State::new(0).encode()?.len();
    if len == 256 { Ok(()) } else { Err(format!("a state has {len} bytes").into()) }
}
