//! `Recovery<T>` as an argument of axum's handlers.

use axum_core::extract::FromRequestParts;
use http::StatusCode;
use http::request::Parts;

use super::recovery::Recovery;

/// Refused with 500 where there is no [`SessionLayer`](crate::SessionLayer) of the same `T`.
impl<T, S> FromRequestParts<S> for Recovery<T>
where
    T: Send + Sync + 'static,
    S: Sync,
{
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let missing = (StatusCode::INTERNAL_SERVER_ERROR, "no session layer for this route");
        parts.extensions.get::<Self>().cloned().ok_or(missing)
    }
}
