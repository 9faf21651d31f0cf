//! Who may do what, and what comes with a request: its body and its parameters.

use super::answer::Problem;
use crate::{
    admission::file::info_hash,
    config::api::ApiAccess,
    http::target::decoded,
    statistics::api::{ApiEvent, ApiFailure},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::{HeaderMap, body::Incoming, header};
use serde_json::{Map, Value};
use std::{str::FromStr, time::Duration};
use tokio::time::timeout;
use tracker_common::id::InfoHash;

/// Bytes of the longest body.
const LONGEST_BODY: usize = 64 << 10;

/// How long it may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What an operation is given.
#[derive(Debug)]
pub struct Asked {
    /// Parameters of the path, in their order.
    pub parameters: Vec<String>,
    /// The query, encoded.
    pub query: String,
    /// The body, if it is one that takes a body.
    pub body: Map<String, Value>,
}

/// Whether whoever asks may do so. A Unix socket is for who may write to its file.
///
/// # Errors
/// When there is no right token.
pub fn authorise(access: &ApiAccess, by_unix: bool, kind: ApiEvent, headers: &HeaderMap) -> Result<(), Problem> {
    if by_unix || kind == ApiEvent::Open {
        return Ok(());
    }
    let refuse = |failure, detail: &str| {
        Err(Problem::new(failure, detail).with(header::WWW_AUTHENTICATE, "Bearer realm=\"tracker\""))
    };
    match (headers.get(header::AUTHORIZATION), &access.token) {
        (Some(given), Some(token)) if token.is_in(given.as_bytes()) => Ok(()),
        (None, Some(_)) => refuse(ApiFailure::TokenMissing, "send the token as Authorization: Bearer TOKEN"),
        (Some(_), Some(_)) => refuse(ApiFailure::TokenWrong, "it is not the first line of the file --api-token-file"),
        (_, None) => refuse(ApiFailure::TokenWrong, "there is no token any more: --api-token-file is not given"),
    }
}

/// Reads a body. Nothing may come where none is taken.
///
/// # Errors
/// When it is too long, late, of another type or no JSON object.
pub async fn body(takes_one: bool, headers: &HeaderMap, body: Incoming) -> Result<Map<String, Value>, Problem> {
    let bytes = match timeout(BODY_TIMEOUT, Limited::new(body, LONGEST_BODY).collect()).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(Problem::new(ApiFailure::TooLarge, format!("a body has {LONGEST_BODY} bytes at most")));
        }
        Ok(Err(_)) => return Err(Problem::new(ApiFailure::Malformed, "the body ends early")),
        Err(_) => {
            return Err(Problem::new(ApiFailure::Timeout, format!("a body has to come in {BODY_TIMEOUT:?}")));
        }
    };
    if !takes_one {
        return if bytes.is_empty() {
            Ok(Map::new())
        } else {
            Err(Problem::new(ApiFailure::Malformed, "this takes no body"))
        };
    }
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !is_json(media_type) {
        let problem = Problem::new(ApiFailure::MediaType, format!("Content-Type is {media_type:?}"));
        return Err(problem.with(header::ACCEPT, "application/json, application/merge-patch+json"));
    }
    object(&bytes)
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    ["application/json", "application/merge-patch+json"].iter().any(|known| essence.eq_ignore_ascii_case(known))
}

fn object(bytes: &Bytes) -> Result<Map<String, Value>, Problem> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Problem::new(ApiFailure::Malformed, "the body is no JSON object")),
        Err(error) => Err(Problem::new(ApiFailure::Malformed, format!("the body is no JSON: {error}"))),
    }
}

impl Asked {
    /// A parameter of the path.
    ///
    /// # Errors
    /// When it is not what it is to be.
    pub fn parameter<T: FromStr>(&self, place: usize, what: &str) -> Result<T, Problem> {
        let text = self.parameters.get(place).map_or("", String::as_str);
        text.parse().map_err(|_| Problem::new(ApiFailure::Malformed, format!("{text:?} is no {what}")))
    }

    /// A parameter of the path that is an info_hash.
    ///
    /// # Errors
    /// When it is none.
    pub fn info_hash(&self, place: usize) -> Result<InfoHash, Problem> {
        let text = self.parameters.get(place).map_or("", String::as_str);
        info_hash(text.as_bytes()).ok_or_else(|| {
            Problem::new(
                ApiFailure::Malformed,
                format!("{text:?} is no info_hash of 40 hexadecimal digits (64 for v2)"),
            )
        })
    }

    /// Parameters of the query, of which these are known, in their order.
    ///
    /// # Errors
    /// When there is another one, or one twice.
    pub fn query<const N: usize>(&self, known: [&str; N]) -> Result<[Option<String>; N], Problem> {
        let mut values = [const { None }; N];
        for pair in self.query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let wrong = |what: &str| Err(Problem::new(ApiFailure::Malformed, format!("{name} {what}")));
            let Some(place) = known.iter().position(|known| *known == name) else {
                return wrong("is no parameter of this");
            };
            if values[place].is_some() {
                return wrong("is there twice");
            }
            match String::from_utf8(decoded(value.as_bytes())) {
                Ok(text) => values[place] = Some(text),
                Err(_) => return wrong("is no UTF-8"),
            }
        }
        Ok(values)
    }
}

/// A number of the query inside a range.
///
/// # Errors
/// When it is none.
pub fn number(name: &str, given: Option<&str>, default: usize, most: usize) -> Result<usize, Problem> {
    let Some(text) = given else { return Ok(default) };
    match text.parse() {
        Ok(number) if number <= most => Ok(number),
        _ => Err(Problem::new(ApiFailure::Malformed, format!("{name} is {text:?}; it can be 0 to {most}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_json() {
        for (media_type, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/merge-patch+json", true),
            ("", false),
            ("text/plain", false),
            ("application/jsonp", false),
            ("application/x-www-form-urlencoded", false),
            ("text/plain; application/json", false),
        ] {
            assert_eq!(is_json(media_type), expected, "{media_type}");
        }
        for (text, expected) in
            [("{}", true), ("[]", false), ("", false), ("{", false), ("null", false), ("{} x", false)]
        {
            assert_eq!(object(&Bytes::from_static(text.as_bytes())).is_ok(), expected, "{text}");
        }
    }

    #[test]
    fn queries_have_known_parameters_once() {
        let asked = |query: &str| Asked { parameters: Vec::new(), query: query.into(), body: Map::new() };
        for (query, expected) in [
            ("", Some([None, None])),
            ("limit=3", Some([Some("3"), None])),
            ("offset=4&limit=3&", Some([Some("3"), Some("4")])),
            ("limit=%33", Some([Some("3"), None])),
            ("limit", Some([Some(""), None])),
            ("limit=3&limit=3", None),
            ("Limit=3", None),
            ("limit=%ff", None),
            ("=", None),
        ] {
            let found = asked(query).query(["limit", "offset"]).ok();
            let expected = expected.map(|values| values.map(|value| value.map(str::to_owned)));
            assert_eq!(found, expected, "{query}");
        }
        for (text, expected) in
            [(None, Some(7)), (Some("9"), Some(9)), (Some("10"), None), (Some("-1"), None), (Some(""), None)]
        {
            assert_eq!(number("limit", text, 7, 9).ok(), expected, "{text:?}");
        }
    }
}
