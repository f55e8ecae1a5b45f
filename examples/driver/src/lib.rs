//! What the demos share: children that are really killed, and expectations that are really checked.

mod child;
mod effects;
mod expect;

pub use child::{Child, ChildError};
pub use effects::Effects;
pub use expect::{Expectations, field, number};
