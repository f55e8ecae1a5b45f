//! A fraction, exact: no float is ever compared.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::ConfigError;

const ONE: u32 = 1_000_000;

/// A fraction above 0 and up to 1, in parts per million. Written `0.5` in configuration.
///
/// ```
/// use resurge_breaker::Rate;
/// assert_eq!(Rate::new(0.5)?, Rate::percent(50)?);
/// assert!(Rate::new(0.0).is_err() && Rate::new(50.0).is_err() && Rate::new(f64::NAN).is_err());
/// # Ok::<(), resurge_breaker::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Rate(u32);

impl Rate {
    /// One half.
    pub const HALF: Self = Self(ONE / 2);

    /// From a fraction in (0, 1], rounded to parts per million.
    pub fn new(fraction: f64) -> Result<Self, ConfigError> {
        let ppm = (fraction * f64::from(ONE)).round();
        if fraction.is_finite() && ppm >= 1.0 && ppm <= f64::from(ONE) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked to be between 1 and a million"
            )]
            return Ok(Self(ppm as u32));
        }
        Err(ConfigError::new("rate", format!("{fraction} is not a fraction above 0 and up to 1")))
    }

    /// From a percentage, 1 to 100.
    pub fn percent(percent: u32) -> Result<Self, ConfigError> {
        match percent {
            1..=100 => Ok(Self(percent * (ONE / 100))),
            _ => Err(ConfigError::new("rate", format!("{percent} % is not 1 to 100 %"))),
        }
    }

    /// As a fraction.
    pub fn as_fraction(self) -> f64 {
        f64::from(self.0) / f64::from(ONE)
    }

    /// Whether `part` of `whole` is at least this; never for a `whole` of 0.
    pub(crate) fn reached(self, part: u64, whole: u64) -> bool {
        whole > 0 && u128::from(part) * u128::from(ONE) >= u128::from(self.0) * u128::from(whole)
    }

    pub(crate) fn ppm(self) -> u32 {
        self.0
    }

    /// What [`ppm`](Self::ppm) gave.
    pub(crate) fn from_ppm(ppm: u32) -> Self {
        Self(ppm)
    }
}

impl TryFrom<f64> for Rate {
    type Error = ConfigError;

    fn try_from(fraction: f64) -> Result<Self, ConfigError> {
        Self::new(fraction)
    }
}

impl From<Rate> for f64 {
    fn from(rate: Rate) -> Self {
        rate.as_fraction()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_fraction().fmt(f)
    }
}
