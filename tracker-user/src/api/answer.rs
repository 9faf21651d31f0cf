//! Responses: JSON, and what went wrong as a problem of RFC 9457.

use crate::statistics::api::ApiFailure;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use serde_json::{Value, json};

/// A response with its whole body.
pub type Reply = Response<Full<Bytes>>;

/// A request that is not answered as asked.
#[derive(Debug)]
pub struct Problem {
    /// Why.
    pub failure: ApiFailure,
    /// What exactly, for people.
    pub detail: String,
    /// A header that goes with it.
    pub header: Option<(HeaderName, String)>,
}

impl Problem {
    /// With what exactly is wrong.
    #[must_use]
    pub fn new(failure: ApiFailure, detail: impl Into<String>) -> Self {
        Self { failure, detail: detail.into(), header: None }
    }

    /// For an error of the daemon's.
    #[must_use]
    pub fn of(failure: ApiFailure, error: &anyhow::Error) -> Self {
        Self::new(failure, format!("{error:#}"))
    }

    /// With a header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.header = Some((name, value.into()));
        self
    }

    /// The response.
    #[must_use]
    pub fn reply(self) -> Reply {
        let Self { failure, detail, header } = self;
        let code = failure.label().trim_start_matches("api_");
        let status = failure.status();
        let body = json!({
            "type": format!("urn:x-tracker:problem:{code}"),
            "title": failure.text(),
            "status": status,
            "detail": detail,
            "code": code,
        });
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut reply = with_body(status, "application/problem+json", text(&body));
        if let Some((name, value)) = header
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            reply.headers_mut().insert(name, value);
        }
        reply
    }
}

/// What was asked for.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body; none for status 204.
    pub body: Option<Value>,
}

impl Answer {
    /// With status 200.
    #[must_use]
    pub fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, body: Some(body) }
    }

    /// Something was done that there is nothing to say of.
    #[must_use]
    pub fn done() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None }
    }

    /// The response.
    #[must_use]
    pub fn reply(self) -> Reply {
        match self.body {
            Some(body) => with_body(self.status, "application/json", text(&body)),
            None => {
                let mut reply = Response::new(Full::default());
                *reply.status_mut() = self.status;
                private(&mut reply);
                reply
            }
        }
    }
}

/// JSON that is written already.
#[must_use]
pub fn written(text: &'static str) -> Reply {
    with_body(StatusCode::OK, "application/json", Bytes::from_static(text.as_bytes()))
}

fn text(body: &Value) -> Bytes {
    let mut text = body.to_string();
    text.push('\n');
    text.into()
}

fn with_body(status: StatusCode, media_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    private(&mut reply);
    reply
}

/// It is for nobody else, and what its type says.
fn private(reply: &mut Reply) {
    let headers = reply.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
