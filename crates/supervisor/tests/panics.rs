//! Where a panic happened, when the application asked for it. In a process of its own: it is asked once.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use resurge_store::{BoxFuture, Store};
use resurge_supervisor::{
    AuditEvent, BoxError, Health, RecoveryManager, Repairable, SupervisorConfig,
    capture_panic_stacks,
};

struct Plugin;

impl Repairable for Plugin {
    fn shutdown(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async { Ok(()) })
    }
    fn load(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async { Ok(()) })
    }
    fn health(&self) -> BoxFuture<'_, Result<Health, BoxError>> {
        Box::pin(async { Ok(Health::healthy()) })
    }
}

#[inline(never)]
fn something_with_a_name() {
    panic!("on purpose");
}

async fn stack_of_a_panic(manager: &RecoveryManager) -> Option<String> {
    let (name, caller) = (format!("{:p}", &manager), manager.clone());
    manager.register(&name, Plugin).unwrap();
    let own = name.clone();
    let call = async move {
        tokio::task::yield_now().await;
        // One that is caught further down is not taken for the one that is not.
        let caught = std::panic::catch_unwind(AssertUnwindSafe(|| panic!("not this one")));
        assert!(caught.is_err());
        tokio::task::yield_now().await;
        something_with_a_name();
        Ok::<_, String>(())
    };
    let panicked = tokio::spawn(async move {
        for _ in 0..9 {
            let _ = caller.execute(&own, async { Err::<(), _>("so that this one opens") }).await;
        }
        caller.execute(&own, call).await
    });
    assert!(panicked.await.unwrap_err().is_panic());
    manager.start().await.unwrap();
    let found = loop {
        tokio::task::yield_now().await;
        let trail = manager.audit().await.unwrap().of(&name).await.unwrap();
        let began = trail.into_iter().find_map(|event| match event {
            AuditEvent::Began { failure, .. } => Some(failure),
            _ => None,
        });
        if let Some(failure) = began {
            break failure;
        }
    };
    manager.stop().await;
    assert_eq!(found.message, "panicked: on purpose");
    assert!(manager.unregister(&name).await);
    found.stack
}

#[tokio::test]
async fn ra8_a_panic_is_recorded_with_its_stack_if_the_application_asks_for_it() {
    let config = SupervisorConfig { health_checking: false, ..SupervisorConfig::default() };
    let manager = RecoveryManager::open(&Store::memory(), config).await.unwrap();
    assert_eq!(stack_of_a_panic(&manager).await, None, "nobody asked");

    let hook_calls = Arc::new(AtomicU32::new(0));
    let (count, before) = (Arc::clone(&hook_calls), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        count.fetch_add(1, Ordering::SeqCst);
        before(panic);
    }));
    capture_panic_stacks();
    capture_panic_stacks();
    let stack = stack_of_a_panic(&manager).await.unwrap();
    assert!(stack.starts_with("at crates/supervisor/tests/panics.rs:"), "{stack}");
    let frame = stack.lines().nth(1).unwrap();
    assert!(frame.contains("something_with_a_name"), "the innermost is the one: {stack}");
    assert_eq!(
        hook_calls.load(Ordering::SeqCst),
        2,
        "the application's own hook is called as before"
    );
}
