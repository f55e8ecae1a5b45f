//! Points at which the server stands still when it is told to, so that it can be killed exactly there.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::watch;

/// Where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A session was recovered, its token replaced; the page does not know yet.
    Recovered,
    /// A click arrived, and nothing is saved.
    Clicked,
    /// A click is saved, and the page does not know yet.
    Saved,
}

/// Which point holds, if any.
#[derive(Clone, Debug)]
pub struct Hold(Arc<watch::Sender<Option<Point>>>);

impl Default for Hold {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Hold {
    /// From now on everybody stops there, for ever.
    pub fn at(&self, point: Point) {
        self.0.send_replace(Some(point));
    }

    /// Passes the point, if it does not hold.
    #[expect(clippy::print_stdout, reason = "who holds is killed by whoever reads this")]
    pub(crate) async fn pass(&self, point: Point) {
        if *self.0.borrow() == Some(point) {
            println!("holding at {point:?}");
            pending::<()>().await;
        }
    }
}
