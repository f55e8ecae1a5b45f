//! The layer and its service.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{HeaderName, Request, Response};
use resurge_store::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower_layer::Layer;
use tower_service::Service;

use super::carrier::{By, Carrier, Cookie};
use super::recovery::{Parting, Recovery};
use crate::manager::SessionManager;

type Subject = dyn Fn(&Parts) -> String + Send + Sync;

/// Recovers the session of each request, and puts a [`Recovery<T>`] into its extensions. The token is looked for in the header
/// `x-recovery-token`, then in the cookie `__Host-recovery`; never in the query, unless asked to.
///
/// A request always goes on: whatever is wrong with its token, it gets a fresh session and, where the old token is dead, a new one.
/// When the store fails, or our clock is behind the token's, the session is fresh too, nothing is saved, also when the store is back by then, and the client keeps
/// its token; `resurge_session_unsaved_requests_total` counts those that had something to save.
///
/// A response that brings a token says `Cache-Control: no-store`. A token that came by cookie is not repeated in the header, where
/// scripts could read it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use http::{Request, Response};
/// use resurge_session_token::{Recovery, SessionLayer, SessionManager};
/// use tower::{Layer, ServiceExt, service_fn};
/// # let key = [7, 1, 8, 2].repeat(8);
/// # let sessions = SessionManager::builder(resurge_store::Store::memory()).key(1, &key).build()?;
/// let count = service_fn(|request: Request<()>| async move {
///     let session = request.extensions().get::<Recovery<u32>>().unwrap();
///     let visits = session.state().map_or(0, |visits| *visits) + 1;
///     session.set(visits);
///     Ok::<_, std::convert::Infallible>(Response::new(visits))
/// });
/// let service = SessionLayer::<u32>::new(sessions).layer(count);
/// let first = service.clone().oneshot(Request::new(())).await?;
/// let token = first.headers()["x-recovery-token"].clone();
///
/// let request = Request::builder().header("x-recovery-token", token).body(())?;
/// assert_eq!(service.oneshot(request).await?.into_body(), 2);
/// # Ok(()) }
/// ```
pub struct SessionLayer<T> {
    settings: Arc<Settings>,
    state: PhantomData<fn() -> T>,
}

#[derive(Clone)]
struct Settings {
    sessions: SessionManager,
    carrier: Carrier,
    subject: Arc<Subject>,
}

impl<T> SessionLayer<T> {
    /// With header and cookie, and `anonymous` as the subject of new sessions.
    pub fn new(sessions: SessionManager) -> Self {
        let subject = Arc::new(|_: &Parts| "anonymous".to_owned());
        Self::with(Settings { sessions, carrier: Carrier::default(), subject })
    }

    fn with(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), state: PhantomData }
    }

    fn change(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::clone(&self.settings);
        change(&mut settings);
        Self::with(settings)
    }

    /// Whose a new session is: a user, an address. Limits per subject need it.
    #[must_use]
    pub fn subject(self, of: impl Fn(&Parts) -> String + Send + Sync + 'static) -> Self {
        self.change(|settings| settings.subject = Arc::new(of))
    }

    /// Another header; `None` for none.
    #[must_use]
    pub fn header(self, name: impl Into<Option<HeaderName>>) -> Self {
        self.change(|settings| settings.carrier.header = name.into())
    }

    /// Another cookie; `None` for none.
    #[must_use]
    pub fn cookie(self, cookie: impl Into<Option<Cookie>>) -> Self {
        self.change(|settings| settings.carrier.cookie = cookie.into())
    }

    /// Also looks for the token in the query, under this name. What is in an address ends up in logs, histories and the
    /// `Referer` of other sites: only for clients that can do nothing else, and with
    /// [`ReusePolicy::SingleUse`](crate::ReusePolicy::SingleUse).
    #[must_use]
    pub fn query(self, name: impl Into<String>) -> Self {
        self.change(|settings| settings.carrier.query = Some(name.into()))
    }
}

impl<T> Clone for SessionLayer<T> {
    fn clone(&self) -> Self {
        Self { settings: Arc::clone(&self.settings), state: PhantomData }
    }
}

impl<T> fmt::Debug for SessionLayer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer")
            .field("sessions", &self.settings.sessions)
            .field("carrier", &self.settings.carrier)
            .finish_non_exhaustive()
    }
}

impl<S, T> Layer<S> for SessionLayer<T> {
    type Service = SessionService<S, T>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService { inner, layer: self.clone() }
    }
}

/// A service whose requests have a session. Made by [`SessionLayer`].
pub struct SessionService<S, T> {
    inner: S,
    layer: SessionLayer<T>,
}

impl<S: Clone, T> Clone for SessionService<S, T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S, T> fmt::Debug for SessionService<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService").field("layer", &self.layer).finish_non_exhaustive()
    }
}

impl<S, T, B, R> Service<Request<B>> for SessionService<S, T>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
    B: Send + 'static,
    R: Send,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<R>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready goes along; the clone that stays is not.
        let unready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, unready);
        let settings = Arc::clone(&self.layer.settings);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let found = settings.carrier.find(&parts.headers, &parts.uri);
            let (token, by) = found.map_or((None, By::Nothing), |(token, by)| (Some(token), by));
            let subject = (settings.subject)(&parts);
            let sessions = settings.sessions.clone();
            let recovery = Recovery::<T>::begin(sessions, subject, token.as_ref()).await;
            parts.extensions.insert(recovery.clone());
            let mut response = inner.call(Request::from_parts(parts, body)).await?;
            if !response.status().is_server_error()
                && let Err(error) = recovery.save().await
            {
                metrics::counter!("resurge_session_unsaved_requests_total").increment(1);
                tracing::warn!(class = error.class(), "the session of a request was not saved");
            }
            match recovery.parting() {
                Parting::Give(token) => settings.carrier.give(response.headers_mut(), &token, by),
                Parting::Clear => settings.carrier.clear(response.headers_mut()),
                Parting::Nothing => {}
            }
            Ok(response)
        })
    }
}
