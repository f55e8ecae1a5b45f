//! Where randomness comes from. Injected, so that a test can repeat a run exactly.

use std::fmt::Debug;

use parking_lot::Mutex;

use crate::{ErrorKind, Result, StoreError};

/// A source of random bytes.
pub trait Entropy: Debug + Send + Sync + 'static {
    /// Fills `out`.
    ///
    /// # Errors
    /// `Unavailable` when the source fails; `out` is then not to be used.
    fn fill(&self, out: &mut [u8]) -> Result<()>;

    /// A random 64-bit number.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    fn next_u64(&self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    }
}

/// The operating system's generator: fit for keys and tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    fn fill(&self, out: &mut [u8]) -> Result<()> {
        getrandom::fill(out).map_err(|e| {
            let message = "the operating system gave no random bytes";
            StoreError::with_source(ErrorKind::Unavailable, message, e)
        })
    }
}

/// The same bytes for the same seed, for tests and simulations. Never for secrets.
///
/// ```
/// use resurge_store::{Entropy, SeededEntropy};
/// assert_eq!(SeededEntropy::new(7).next_u64()?, SeededEntropy::new(7).next_u64()?);
/// # Ok::<(), resurge_store::StoreError>(())
/// ```
#[derive(Debug)]
pub struct SeededEntropy {
    state: Mutex<u64>,
}

impl SeededEntropy {
    /// A generator that starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: Mutex::new(seed) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, out: &mut [u8]) -> Result<()> {
        let mut state = self.state.lock();
        for chunk in out.chunks_mut(8) {
            // SplitMix64.
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            for (to, from) in chunk.iter_mut().zip(z.to_be_bytes()) {
                *to = from;
            }
        }
        Ok(())
    }
}
