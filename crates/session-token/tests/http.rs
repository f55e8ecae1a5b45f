//! The layer: header, cookie, neither; saved, not saved; dead, replayed, and a store that is down.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum_core::extract::FromRequestParts;
use http::header::{COOKIE, SET_COOKIE};
use http::{Request, Response, StatusCode};
use resurge_session_token::{
    Cookie, Recovery, RecoveryStatus, SameSite, SessionLayer, SessionManager, join_token,
};
use resurge_store::{MemoryStore, StateStore, Store, VirtualClock};
use tower::{Layer, Service, ServiceExt, service_fn};

type Answer = Response<(RecoveryStatus, u32)>;

/// Counts visits; the path decides what else.
async fn visit(request: Request<()>) -> Result<Answer, Infallible> {
    let path = request.uri().path().to_owned();
    let (mut parts, ()) = request.into_parts();
    let session = Recovery::<u32>::from_request_parts(&mut parts, &()).await.unwrap();
    let visits = session.state().map_or(0, |visits| *visits) + 1;
    if path != "/look" {
        session.set(visits);
    }
    if path == "/logout" {
        session.end().await.unwrap();
    }
    let mut response = Response::new((session.status(), visits));
    if path == "/fail" {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    Ok(response)
}

#[derive(Clone)]
struct Site {
    clock: VirtualClock,
    store: Arc<MemoryStore>,
    sessions: SessionManager,
    layer: SessionLayer<u32>,
}

fn site() -> Site {
    let clock = VirtualClock::new();
    let store = Arc::new(MemoryStore::in_memory());
    let key: Vec<u8> = (0..32).collect();
    let shared = Store::from_arc(Arc::clone(&store) as _).with_clock(clock.clone());
    let sessions =
        SessionManager::builder(shared).key(1, &key).cleanup_interval(None).build().unwrap();
    let layer = SessionLayer::new(sessions.clone()).subject(|parts| {
        let user = parts.headers.get("x-user").and_then(|user| user.to_str().ok());
        user.unwrap_or("nobody").to_owned()
    });
    Site { clock, store, sessions, layer }
}

impl Site {
    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut service = self.layer.layer(service_fn(visit));
        service.ready().await.unwrap().call(request.body(()).unwrap()).await.unwrap()
    }
}

fn header(answer: &Answer) -> String {
    answer.headers()["x-recovery-token"].to_str().unwrap().to_owned()
}

fn cookie(answer: &Answer) -> Option<String> {
    Some(answer.headers().get(SET_COOKIE)?.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn without_a_token_the_first_answer_brings_one() {
    let site = site();
    let first = site.get("/", &[("x-user", "alice")]).await;
    assert_eq!(*first.body(), (RecoveryStatus::Fresh, 1));
    let expected =
        format!("__Host-recovery={}; Path=/; HttpOnly; SameSite=Lax; Secure", header(&first));
    assert_eq!(cookie(&first).unwrap(), expected);
    assert_eq!(site.sessions.list("alice").await.unwrap().len(), 1);
    let look = site.get("/look", &[]).await;
    assert_eq!(cookie(&look), None, "a token for nothing");
}

#[tokio::test]
async fn a_header_or_a_cookie_brings_the_state_back() {
    let site = site();
    let first = site.get("/", &[]).await;
    let second = site.get("/", &[("x-recovery-token", &header(&first))]).await;
    assert_eq!(*second.body(), (RecoveryStatus::Recovered, 2));
    assert_ne!(header(&second), header(&first), "not rotated");
    let cookies = format!("other=1; __Host-recovery={}; more=2", header(&second));
    let third = site.get("/", &[(COOKIE.as_str(), &cookies)]).await;
    assert_eq!(*third.body(), (RecoveryStatus::Recovered, 3));
    // Not in the query, unless asked for.
    let path = format!("/?recovery={}", header(&third));
    assert_eq!(site.get(&path, &[]).await.body().0, RecoveryStatus::Fresh);
    let asked = Site { layer: site.layer.clone().query("recovery"), ..site };
    assert_eq!(*asked.get(&path, &[]).await.body(), (RecoveryStatus::Recovered, 4));
}

#[tokio::test]
async fn a_server_error_is_not_saved_and_the_client_gets_its_new_token() {
    let site = site();
    let first = site.get("/", &[]).await;
    let failed = site.get("/fail", &[("x-recovery-token", &header(&first))]).await;
    assert_eq!(*failed.body(), (RecoveryStatus::Recovered, 2));
    let next = site.get("/", &[("x-recovery-token", &header(&failed))]).await;
    assert_eq!(*next.body(), (RecoveryStatus::Recovered, 2), "a failed request was saved");
}

#[tokio::test]
async fn a_dead_token_is_replaced() {
    let site = site();
    let first = site.get("/", &[]).await;
    for dead in ["nonsense", "st1.AQEB", &"A".repeat(1 << 16)] {
        let fresh = site.get("/", &[("x-recovery-token", dead)]).await;
        assert_eq!(*fresh.body(), (RecoveryStatus::Failed, 1));
        let again = site.get("/", &[("x-recovery-token", &header(&fresh))]).await;
        assert_eq!(*again.body(), (RecoveryStatus::Recovered, 2));
        let looked = site.get("/look", &[("x-recovery-token", dead)]).await;
        assert!(cookie(&looked).unwrap().contains("st1."), "the dead cookie stays");
    }
    site.clock.advance(Duration::from_secs(3_600));
    let expired = site.get("/", &[("x-recovery-token", &header(&first))]).await;
    assert_eq!(*expired.body(), (RecoveryStatus::Failed, 1));
}

#[tokio::test]
async fn a_slow_request_does_not_take_the_newer_cookie() {
    let site = site();
    let first = site.get("/", &[]).await;
    let newer = site.get("/", &[("x-recovery-token", &header(&first))]).await;
    let same = site.get("/look", &[("x-recovery-token", &header(&first))]).await;
    assert_eq!(header(&same), header(&newer), "within the grace time: the same successor");
    site.clock.advance(Duration::from_secs(60));
    let late = site.get("/look", &[("x-recovery-token", &header(&first))]).await;
    assert_eq!(late.body().0, RecoveryStatus::Failed);
    assert_eq!(cookie(&late), None, "the cookie of another request was taken away");
}

#[tokio::test]
async fn a_logout_takes_the_cookie_away() {
    let site = site();
    let first = site.get("/", &[]).await;
    let out = site.get("/logout", &[("x-recovery-token", &header(&first))]).await;
    let set = cookie(&out).unwrap();
    assert!(set.starts_with("__Host-recovery=; ") && set.ends_with("; Max-Age=0"), "{set}");
    assert_eq!(site.sessions.live().await.unwrap(), 0);
}

#[tokio::test]
async fn with_the_store_down_requests_go_on_and_tokens_stay() {
    let site = site();
    let first = site.get("/", &[]).await;
    site.store.close().await.unwrap();
    let down = site.get("/", &[("x-recovery-token", &header(&first))]).await;
    assert_eq!(*down.body(), (RecoveryStatus::Failed, 1));
    assert_eq!(down.status(), StatusCode::OK);
    assert_eq!(cookie(&down), None, "the client's token may still be good");
}

#[tokio::test]
async fn cookies_are_as_configured() {
    let site = site();
    let cookies = [
        (Cookie::host("a b;").same_site(SameSite::Strict), "__Host-ab=", "SameSite=Strict; Secure"),
        (Cookie::insecure("dev"), "dev=", "SameSite=Lax"),
        (Cookie::host("c").max_age(Duration::from_secs(9)), "__Host-c=", "Secure; Max-Age=9"),
    ];
    for (configured, start, end) in cookies {
        let layer = site.layer.clone().cookie(configured).header(None);
        let answer = Site { layer, ..site.clone() }.get("/", &[]).await;
        let set = cookie(&answer).unwrap();
        assert!(set.starts_with(start) && set.ends_with(end), "{set}");
        assert!(!answer.headers().contains_key("x-recovery-token"));
    }
    let name = http::HeaderName::from_static("x-mine");
    let own = Site { layer: site.layer.clone().header(name), ..site.clone() };
    let answer = own.get("/", &[]).await;
    let token = answer.headers()["x-mine"].to_str().unwrap().to_owned();
    assert_eq!(own.get("/", &[("x-mine", &token)]).await.body().1, 2);
    assert_eq!(own.get("/", &[("x-recovery-token", &token)]).await.body().1, 1);
    let without = Site { layer: site.layer.clone().cookie(None), ..site };
    assert_eq!(cookie(&without.get("/", &[]).await), None);
}

#[tokio::test]
async fn without_a_layer_the_extractor_refuses() {
    let (mut parts, ()) = Request::new(()).into_parts();
    let refused = Recovery::<u32>::from_request_parts(&mut parts, &()).await.unwrap_err();
    assert_eq!(refused.0, StatusCode::INTERNAL_SERVER_ERROR);
}

#[test]
fn a_join_message_carries_a_token() {
    assert_eq!(join_token(r#"{"_recovery":"st1.a"}"#).unwrap().expose(), "st1.a");
    assert_eq!(join_token(r#"{"payload":{"_recovery":"st1.b"}}"#).unwrap().expose(), "st1.b");
    let huge = format!(r#"{{"_recovery":"{}"}}"#, "a".repeat(2 << 20));
    for none in ["", "[]", "{}", r#"{"_recovery":""}"#, r#"{"_recovery":7}"#, huge.as_str()] {
        assert!(join_token(none).is_none());
    }
}
