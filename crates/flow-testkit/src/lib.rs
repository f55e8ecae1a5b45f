#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod crash_points;
mod effects;
mod flow_test;
mod history;
mod life;
mod report;
mod rules;

pub use crash_points::CrashPoints;
pub use effects::Effects;
pub use flow_test::FlowTest;
pub use history::{History, verify_replay};
pub use life::Life;
pub use report::{CrashFailure, CrashReport};
/// Why a test failed: any error.
pub use resurge_testkit::Failure;

/// The guide's examples, run as doctests.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../../docs/guide/testing-a-flow.md")]
    struct TestingAFlow;
    #[doc = include_str!("../../../docs/guide/changing-code.md")]
    struct ChangingCode;
}
