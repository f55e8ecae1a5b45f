#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cipher;
mod context;
mod envelope;
mod error;
mod material;
mod metrics;
mod pae;
mod policy;
mod reencrypt;
mod references;
mod ring;
mod sealer;
mod stored;

pub use context::{Context, Place};
pub use envelope::{Envelope, OVERHEAD};
pub use error::{Result, SealError};
pub use pae::{pae, pae_each};
pub use policy::{Decision, Redacted, Sensitive, SensitivePolicy};
pub use reencrypt::{
    FailureClass, Reencrypt, ReencryptFailure, ReencryptReport, Resealable, SealedRecords, Unread,
    Visitor,
};
pub use references::{References, Tally};
pub use ring::{
    KdfParams, KeyId, KeyInfo, KeyRing, KeyState, KeyWrap, Passphrase, RingBuilder, WrapContext,
    WrapError,
};
pub use sealer::Sealer;
pub use stored::Stored;
