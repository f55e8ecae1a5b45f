//! The layer: header, cookie, neither; saved, not saved; dead, replayed, and a store that is down.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::time::Duration;

use axum_core::extract::FromRequestParts;
use http::header::{COOKIE, SET_COOKIE};
use http::{Request, Response, StatusCode};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use resurge_session_token::{
    Cookie, Eviction, Recovery, RecoveryStatus, ReusePolicy, SameSite, SessionLayer,
    SessionManager, join_token,
};
use resurge_store::{Clock, ErrorKind, MemoryStore, StateStore, Store, Timestamp, VirtualClock};
use resurge_testkit::{Call, Fault, FaultStore};
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
    store: FaultStore,
    sessions: SessionManager,
    layer: SessionLayer<u32>,
}

fn site() -> Site {
    let clock = VirtualClock::new();
    let store = FaultStore::new(MemoryStore::in_memory());
    let key: Vec<u8> = (0..32).collect();
    let shared = Store::new(store.clone()).with_clock(clock.clone());
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

/// The token that a `Set-Cookie` line gives.
fn token_in(cookie: &str) -> String {
    let value = cookie.strip_prefix("__Host-recovery=").unwrap();
    value.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn s33_without_a_token_the_first_answer_brings_one() {
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
async fn s33_a_header_or_a_cookie_brings_the_state_back() {
    let site = site();
    let first = site.get("/", &[]).await;
    let second = site.get("/", &[("x-recovery-token", &header(&first))]).await;
    assert_eq!(*second.body(), (RecoveryStatus::Recovered, 2));
    assert_ne!(header(&second), header(&first), "not rotated");
    let cookies = format!("other=1; __Host-recovery={}; more=2", header(&second));
    let third = site.get("/", &[(COOKIE.as_str(), &cookies)]).await;
    assert_eq!(*third.body(), (RecoveryStatus::Recovered, 3));
    // A script cannot read the cookie, and must not read its token elsewhere.
    assert!(!third.headers().contains_key("x-recovery-token"));
    let third = token_in(&cookie(&third).unwrap());
    // Not in the query, unless asked for.
    let path = format!("/?recovery={third}");
    assert_eq!(site.get(&path, &[]).await.body().0, RecoveryStatus::Fresh);
    let asked = Site { layer: site.layer.clone().query("recovery"), ..site };
    assert_eq!(*asked.get(&path, &[]).await.body(), (RecoveryStatus::Recovered, 4));
}

#[tokio::test]
async fn s33_a_server_error_is_not_saved_and_the_client_gets_its_new_token() {
    let site = site();
    let first = site.get("/", &[]).await;
    let failed = site.get("/fail", &[("x-recovery-token", &header(&first))]).await;
    assert_eq!(*failed.body(), (RecoveryStatus::Recovered, 2));
    let next = site.get("/", &[("x-recovery-token", &header(&failed))]).await;
    assert_eq!(*next.body(), (RecoveryStatus::Recovered, 2), "a failed request was saved");
}

#[tokio::test]
async fn s33_a_dead_token_is_replaced() {
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
async fn s33_a_dead_cookie_is_cleared_when_nothing_takes_its_place() {
    let mut site = site();
    let key: Vec<u8> = (0..32).collect();
    let builder = SessionManager::builder(Store::new(site.store.clone())).key(1, &key);
    let builder = builder.max_entries(1).eviction(Eviction::Reject).cleanup_interval(None);
    site.sessions = builder.build().unwrap();
    site.layer = SessionLayer::new(site.sessions.clone());
    site.sessions.create("the only one").await.unwrap();
    let refused = site.get("/", &[(COOKIE.as_str(), "__Host-recovery=st1.dead")]).await;
    assert_eq!(*refused.body(), (RecoveryStatus::Failed, 1));
    let set = cookie(&refused).unwrap();
    assert!(set.starts_with("__Host-recovery=; ") && set.ends_with("; Max-Age=0"), "{set}");
}

/// A server whose clock is behind does not take the tokens of the others away.
#[tokio::test]
async fn s33_a_token_of_the_future_is_kept() {
    let site = site();
    let first = site.get("/", &[]).await;
    let now = site.clock.now().as_millis();
    site.clock.set_wall(Timestamp::from_millis(now - 120_000));
    let behind = site.get("/", &[("x-recovery-token", &header(&first))]).await;
    assert_eq!(*behind.body(), (RecoveryStatus::Failed, 1));
    assert_eq!(cookie(&behind), None);
    site.clock.set_wall(Timestamp::from_millis(now));
    let back = site.get("/", &[("x-recovery-token", &header(&first))]).await;
    assert_eq!(*back.body(), (RecoveryStatus::Recovered, 2));
}

#[tokio::test]
async fn s33_a_slow_request_does_not_take_the_newer_cookie() {
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
async fn s33_a_logout_takes_the_cookie_away() {
    let site = site();
    let first = site.get("/", &[]).await;
    let out = site.get("/logout", &[("x-recovery-token", &header(&first))]).await;
    let set = cookie(&out).unwrap();
    assert!(set.starts_with("__Host-recovery=; ") && set.ends_with("; Max-Age=0"), "{set}");
    assert_eq!(site.sessions.live().await.unwrap(), 0);
}

/// Requests that had something to save and did not, and recoveries that failed because of the store.
fn counted(recorder: &DebuggingRecorder) -> (u64, u64) {
    let mut counts = (0, 0);
    for (key, _, _, value) in recorder.snapshotter().snapshot().into_vec() {
        let DebugValue::Counter(n) = value else { continue };
        let mut labels = key.key().labels().map(metrics::Label::value);
        match key.key().name() {
            "resurge_session_unsaved_requests_total" => counts.0 += n,
            "resurge_session_tokens_failed_total"
                if labels.any(|l| matches!(l, "closed" | "store")) =>
            {
                counts.1 += n;
            }
            _ => {}
        }
    }
    counts
}

#[test]
fn s33_with_the_store_down_requests_go_on_and_tokens_stay() {
    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let site = site();
            let first = site.get("/", &[]).await;
            let first = header(&first);
            let token = [("x-recovery-token", first.as_str())];
            // Away for all of a request; and for its beginning only, back when it would save.
            for calls in [u64::MAX, 1] {
                let away = Fault::before(ErrorKind::Unavailable);
                if calls == 1 {
                    site.store.fail(Call::Get, 1, away);
                } else {
                    site.store.fail_always(Call::Get, away);
                }
                let down = site.get("/", &token).await;
                assert_eq!(*down.body(), (RecoveryStatus::Failed, 1));
                assert_eq!(down.status(), StatusCode::OK);
                assert_eq!(cookie(&down), None, "the client's token may still be good");
                assert!(!down.headers().contains_key("x-recovery-token"));
                site.store.heal();
            }
            assert_eq!(site.sessions.live().await.unwrap(), 1, "another session was made");
            site.store.fail(Call::Get, 1, Fault::before(ErrorKind::Unavailable));
            let logout = site.layer.layer(service_fn(async |request: Request<()>| {
                let (mut parts, ()) = request.into_parts();
                let session = Recovery::<u32>::from_request_parts(&mut parts, &()).await.unwrap();
                for _ in 0..2 {
                    let ended = session.end().await;
                    assert!(ended.unwrap_err().is_retryable(), "it is not ended, and says it is");
                }
                Ok::<_, Infallible>(Response::new(()))
            }));
            let request = Request::builder().header("x-recovery-token", &first).body(()).unwrap();
            logout.oneshot(request).await.unwrap();
            let back = site.get("/", &token).await;
            assert_eq!(*back.body(), (RecoveryStatus::Recovered, 2), "the state is gone");
            site.store.close().await.unwrap();
            let token = header(&back);
            let closed = site.get("/", &[("x-recovery-token", &token)]).await;
            assert_eq!(*closed.body(), (RecoveryStatus::Failed, 1));
            assert_eq!(cookie(&closed), None);
        });
    });
    let (unsaved, failed) = counted(&recorder);
    assert_eq!((unsaved, failed), (3, 4));
}

/// Of two requests with one single-use token the loser does not touch the winner's cookie, unless it has something to
/// save: then it has a session of its own.
#[tokio::test]
async fn s33_the_loser_of_a_race_leaves_the_winners_cookie() {
    let mut site = site();
    let key: Vec<u8> = (0..32).collect();
    let builder = SessionManager::builder(Store::new(site.store.clone())).key(1, &key);
    let builder = builder.reuse(ReusePolicy::SingleUse).cleanup_interval(None);
    site.sessions = builder.build().unwrap();
    site.layer = SessionLayer::new(site.sessions.clone());
    let first = site.get("/", &[]).await;
    let cookies = format!("__Host-recovery={}", header(&first));
    let sent = [(COOKIE.as_str(), cookies.as_str())];
    let (one, two) = tokio::join!(site.get("/look", &sent), site.get("/look", &sent));
    let (won, lost) =
        if one.body().0 == RecoveryStatus::Recovered { (one, two) } else { (two, one) };
    assert_eq!((won.body().0, lost.body().0), (RecoveryStatus::Recovered, RecoveryStatus::Failed));
    assert_eq!(cookie(&lost), None, "the winner's cookie was taken away");
    let winner = token_in(&cookie(&won).unwrap());
    let next = site.get("/", &[("x-recovery-token", &winner)]).await;
    assert_eq!(*next.body(), (RecoveryStatus::Recovered, 2));
}

#[tokio::test]
async fn what_brings_a_token_is_kept_by_no_cache() {
    let site = site();
    let cached = service_fn(async |request: Request<()>| {
        let session = request.extensions().get::<Recovery<u32>>().unwrap();
        if request.uri().path() == "/set" {
            session.set(1);
        }
        let answer = Response::builder().header("cache-control", "public, max-age=3600");
        Ok::<_, Infallible>(answer.body(()).unwrap())
    });
    for (path, expected) in [("/set", "no-store"), ("/", "public, max-age=3600")] {
        let request = Request::builder().uri(path).body(()).unwrap();
        let answer = site.layer.layer(cached).oneshot(request).await.unwrap();
        let lines: Vec<_> = answer.headers().get_all("cache-control").iter().collect();
        assert_eq!(lines, [expected], "{path}");
    }
}

/// Clones in tasks of one request.
#[tokio::test]
async fn s33_who_saves_twice_has_no_conflict_with_himself() {
    let site = site();
    let service = site.layer.layer(service_fn(async |request: Request<()>| {
        let session = request.extensions().get::<Recovery<u32>>().unwrap().clone();
        let other = session.clone();
        session.set(1);
        let (one, two) = tokio::join!(session.save(), async {
            other.set(2);
            other.save().await
        });
        one.and(two).unwrap();
        session.set(3);
        let (saved, ended) = tokio::join!(session.save(), other.end());
        saved.and(ended).unwrap();
        Ok::<_, Infallible>(Response::new(()))
    }));
    let answer = service.oneshot(Request::new(())).await.unwrap();
    assert!(!answer.headers().contains_key("x-recovery-token"), "a token that leads nowhere");
    assert_eq!(site.sessions.live().await.unwrap(), 0);
}

/// A logout that failed is not done: the second one ends the session, and not only says so.
#[tokio::test]
async fn a_logout_that_failed_can_be_repeated() {
    let site = site();
    let token = header(&site.get("/", &[]).await);
    let handler = site.clone();
    let service = site.layer.layer(service_fn(move |request: Request<()>| {
        let site = handler.clone();
        async move {
            let session = request.extensions().get::<Recovery<u32>>().unwrap().clone();
            assert_eq!(session.status(), RecoveryStatus::Recovered);
            site.store.fail(Call::Commit, 1, Fault::before(ErrorKind::Unavailable));
            assert!(session.end().await.unwrap_err().is_retryable());
            assert_eq!(site.sessions.live().await.unwrap(), 1);
            session.end().await.unwrap();
            assert_eq!(site.sessions.live().await.unwrap(), 0, "it lives on");
            session.end().await.unwrap();
            Ok::<_, Infallible>(Response::new(()))
        }
    }));
    let request = Request::builder().header("x-recovery-token", &token).body(()).unwrap();
    let answer = service.oneshot(request).await.unwrap();
    assert!(!answer.headers().contains_key("x-recovery-token"), "a token that leads nowhere");
}

#[tokio::test]
async fn s33_cookies_are_as_configured() {
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
