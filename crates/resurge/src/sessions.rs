//! Sessions of the app: on its store, with its keys, closed with it.

use resurge_session_token::{SessionBuilder, SessionError, SessionManager};

use crate::app::{Part, Resurge};
use crate::error::{Error, Result};
use crate::status::PartStatus;

impl Resurge {
    /// Sets up the sessions called `name` on the app's store. Their keys are those of the app's sealer, unless `configure`
    /// gives others; a ring that is kept in the store, to be rotated, opens on [`store`](Self::store). Must be called inside a tokio runtime. Open a name once, and clone the manager.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use resurge::{KeyRing, Resurge, Sealer, SensitivePolicy};
    /// let ring = KeyRing::from_bytes(1, &[7, 1, 8, 2].repeat(8))?; // better: `KeyRing::from_env`
    /// let app = Resurge::builder().sealer(Sealer::new(ring, SensitivePolicy::new())).in_memory();
    /// let sessions = app.sessions("carts", |builder| builder.seal_states(true)).await?;
    /// let token = sessions.create("socket-7").await?;
    /// sessions.save(&token, &3).await?;
    /// assert_eq!(sessions.recover::<u32>(&token).await?.state, 3);
    /// app.shutdown().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AlreadyOpen`](Error::AlreadyOpen) when this app has them open; [`Session`](Error::Session) for settings that cannot be,
    /// such as no key; [`ShutDown`](Error::ShutDown).
    pub async fn sessions(
        &self,
        name: &str,
        configure: impl FnOnce(SessionBuilder) -> SessionBuilder,
    ) -> Result<SessionManager> {
        let claim = self.claim("sessions", name)?;
        let mut builder = SessionManager::builder(self.store().clone()).name(name);
        if let Some(ring) = self.sealer().ring() {
            builder = builder.ring(ring.clone());
        }
        let sessions = configure(builder).build()?;
        let (closing, shown, named) = (sessions.clone(), sessions.clone(), name.to_owned());
        let part = Part {
            kind: "sessions",
            name: name.to_owned(),
            order: 1,
            close: Box::new(move || {
                Box::pin(async move {
                    closing.close().await.or_else(|error| match error {
                        // Closed by the user before, and then the store.
                        SessionError::Closed => Ok(()),
                        other => Err(other.into()),
                    })
                })
            }),
            status: Box::new(move || PartStatus::Sessions {
                name: named.clone(),
                stats: shown.stats(),
            }),
        };
        match claim.keep(part) {
            Ok(()) => Ok(sessions),
            Err(part) => {
                (part.close)().await?;
                Err(Error::ShutDown)
            }
        }
    }
}
