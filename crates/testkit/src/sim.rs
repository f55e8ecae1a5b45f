//! Crash simulation: every place a scenario can crash at, with everything a crash may take.
//!
//! [`enumerate`] runs a scenario on a [`SimStore`] again and again. The n-th time the process dies
//! right after submitting its n-th commit; what is left is opened, and `check` looks at it: once for
//! each thing the crash may have taken (see [`Crash`]). Everything runs on one thread in virtual
//! time with seeded randomness, so a failure names the line that replays it.
//!
//! ```
//! use resurge_store::{Batch, Durability, Namespace};
//! use resurge_testkit::sim::{Recovered, Sim, enumerate};
//!
//! let report = enumerate(
//!     |sim: Sim<u8>| async move {
//!         let ns = Namespace::new("orders")?;
//!         for order in 0..5 {
//!             let mut batch = Batch::new();
//!             batch.put(ns.key([order])?, "paid");
//!             sim.store().commit(batch, Durability::Durable).await?;
//!             sim.ack(order); // from here on it must never be lost
//!         }
//!         Ok(())
//!     },
//!     |recovered: Recovered<u8>| async move {
//!         let ns = Namespace::new("orders")?;
//!         for order in recovered.acks() {
//!             let found = recovered.store().get(&ns.key([*order])?).await?;
//!             recovered.survived(order, found.is_some())?;
//!         }
//!         Ok(())
//!     },
//! )
//! .unwrap();
//! assert!(report.to_string().ends_with("0 lost acknowledgements"));
//! assert!(report.crash_points > 10);
//! ```

mod crash;
mod executor;
mod report;
mod simulation;
mod store;
mod witness;

pub use crash::{Crash, Ending};
pub use report::{Report, SimFailure};
pub use simulation::{Failure, Simulation, enumerate};
pub use store::SimStore;
pub use witness::{Recovered, Sim};
