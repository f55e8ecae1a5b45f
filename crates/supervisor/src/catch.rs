//! Panics of other people's code, as values.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::pin;
use std::sync::Once;
use std::task::Poll;

pub(crate) type Payload = Box<dyn Any + Send>;

/// A panic that was caught.
pub(crate) struct Caught {
    pub(crate) payload: Payload,
    /// Where it happened, if that is captured.
    pub(crate) stack: Option<String>,
}

thread_local! {
    /// Somebody here wants to know where a panic happens.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static STACK: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on, panics of calls through a [`RecoveryManager`](crate::RecoveryManager) are recorded with
/// their stacks. Once for the process, for ever.
///
/// Where a panic happened can be seen only by the process's panic hook, while it happens. A library has
/// no business to replace that without being asked, so this is for the application to call, after it set
/// a hook of its own, if it does: that one is called as before. Panics elsewhere are left alone, and
/// cost nothing more.
///
/// ```
/// resurge_supervisor::capture_panic_stacks();
/// ```
pub fn capture_panic_stacks() {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Not there any more while the thread ends: then nobody watches either.
            if WATCHED.try_with(Cell::get).unwrap_or(false) {
                let stack = stack_of(panic);
                let _ = STACK.try_with(|last| last.replace(Some(stack)));
            }
            before(panic);
        }));
    });
}

/// The place, and the calls that led there, innermost first.
fn stack_of(panic: &PanicHookInfo<'_>) -> String {
    let frames = Backtrace::force_capture().to_string();
    let lines: Vec<&str> = frames.lines().collect();
    // The hook's own frames come first, then those of panicking.
    let begins =
        |line: &&str| ["rust_begin_unwind", "::begin_panic"].iter().any(|f| line.contains(f));
    let hook = lines.iter().position(begins).unwrap_or(0);
    let panicking =
        |line: &&&str| line.contains("panicking::") || line.trim_start().starts_with("at ");
    let theirs = lines.iter().skip(hook).skip_while(|line| begins(line)).skip_while(panicking);
    let place = panic.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    std::iter::once(format!("at {place}"))
        .chain(theirs.map(|line| (*line).to_owned()))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Watches this thread until it is dropped.
struct Watching {
    before: bool,
}

impl Watching {
    fn begin() -> Self {
        Self { before: WATCHED.try_with(|watched| watched.replace(true)).unwrap_or(false) }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = WATCHED.try_with(|watched| watched.set(self.before));
    }
}

/// Awaits `future`; what it panics with is the error.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Caught> {
    let mut future = pin!(future);
    std::future::poll_fn(move |cx| {
        let watching = Watching::begin();
        // A future that panicked is not polled again, so nobody sees what it left half done.
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        drop(watching);
        // Also of a panic that was caught further down, so that it is not taken for the next one's.
        let stack = STACK.try_with(RefCell::take).unwrap_or(None);
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(payload) => Poll::Ready(Err(Caught { payload, stack })),
        }
    })
    .await
}

/// What a panic said.
pub(crate) fn message(payload: &Payload) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.as_deref().unwrap_or("(no message)"))
}
