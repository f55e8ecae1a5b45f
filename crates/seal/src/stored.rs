//! How a value is stored: in clear or sealed, told apart by a byte in front that no value can imitate.

use bytes::Bytes;

/// In clear.
pub(crate) const PLAIN: u8 = 0;
/// Sealed.
pub(crate) const SEALED: u8 = 1;

/// A value as it is stored: one byte that says which, then the bytes.
///
/// ```
/// use resurge_seal::Stored;
/// let stored = Stored::Plain("seven".into()).encode();
/// assert_eq!(&stored[..], b"\0seven");
/// assert_eq!(Stored::decode(&stored), Ok(Stored::Plain("seven".into())));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The value itself.
    Plain(Bytes),
    /// An [`Envelope`](crate::Envelope) with the value in it.
    Sealed(Bytes),
}

impl Stored {
    /// Tag and bytes.
    pub fn encode(&self) -> Bytes {
        let (tag, bytes) = match self {
            Self::Plain(bytes) => (PLAIN, bytes),
            Self::Sealed(bytes) => (SEALED, bytes),
        };
        let mut out = Vec::with_capacity(1 + bytes.len());
        out.push(tag);
        out.extend_from_slice(bytes);
        out.into()
    }

    /// Reads what [`encode`](Self::encode) or a [`Sealer`](crate::Sealer) wrote. Shares `stored`.
    ///
    /// # Errors
    /// What is wrong with it; a sealed value is checked for the shape of its envelope.
    pub fn decode(stored: &Bytes) -> Result<Self, &'static str> {
        match stored.first() {
            Some(&PLAIN) => Ok(Self::Plain(stored.slice(1..))),
            Some(&SEALED) => {
                let envelope = stored.slice(1..);
                crate::Envelope::parse(&envelope)?;
                Ok(Self::Sealed(envelope))
            }
            Some(_) => Err("neither in clear nor sealed"),
            None => Err("empty"),
        }
    }
}
