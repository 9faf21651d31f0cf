//! Requests, as far as they matter here. `httparse` does the parsing.

use super::{
    failure::HttpFailure,
    proxy::{self, Trust, header::Claim},
};
use std::mem::MaybeUninit;

/// Longest head of a request, in bytes. An announce has a few hundred; a scrape of a hundred
/// torrents 7 000.
pub const LONGEST: usize = 8192;

/// Most header lines.
const HEADERS: usize = 64;

/// How a body may be compressed, as the client says in `Accept-Encoding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    #[default]
    Identity,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// HEAD: the reply is to have no body.
    pub head: bool,
    /// The path of the target, without query.
    pub path: &'a [u8],
    /// The query without its question mark; empty if there is none.
    pub query: &'a [u8],
    /// HTTP/1.1 and not HTTP/1.0: knows chunked bodies.
    pub chunks: bool,
    /// The client expects the connection to stay open.
    pub keep_alive: bool,
    /// The best encoding the client takes.
    pub encoding: Encoding,
    /// A usual header in which a proxy names the client that it asks for.
    pub proxy: Option<&'static str>,
    /// The client that the header names in which a proxy is believed.
    pub claim: Claim,
    /// By what the client says that it may ask: the value of `Authorization`.
    pub authorization: Option<&'a [u8]>,
    /// The host that the client has asked, with its port if it names one: the value of `Host`.
    pub host: Option<&'a [u8]>,
    /// The media types that the client takes: the value of `Accept`.
    pub accept: Option<&'a [u8]>,
    /// There is an `Accept-Language`. A browser sends one with every request, and no page can have it left
    /// out; programs send none.
    pub has_languages: bool,
    /// Bytes of the request.
    pub length: usize,
}

/// Reads the request that `input` begins with; `None` if it is not complete yet. `trust` is given
/// where it comes from a proxy that is believed.
///
/// # Errors
/// What is wrong with it. It is not known then where in the input the next request begins.
#[inline]
pub fn parse<'a>(input: &'a [u8], trust: Option<&Trust>) -> Result<Option<Request<'a>>, HttpFailure> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(input, &mut headers) {
        Ok(httparse::Status::Complete(length)) if length <= LONGEST => length,
        Ok(httparse::Status::Partial) if input.len() < LONGEST => return early(&parsed),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HttpFailure::HeaderTooLarge),
        Err(httparse::Error::Version) => return Err(HttpFailure::VersionUnsupported),
        Err(
            httparse::Error::HeaderName
            | httparse::Error::HeaderValue
            | httparse::Error::NewLine
            | httparse::Error::Status
            | httparse::Error::Token,
        ) => return Err(HttpFailure::RequestMalformed),
    };
    let head = method(&parsed)?;
    let (path, query) = target(parsed.path.unwrap_or_default().as_bytes())?;
    let chunks = parsed.version == Some(1);
    let mut request = Request {
        head,
        path,
        query,
        chunks,
        keep_alive: chunks,
        encoding: Encoding::Identity,
        proxy: None,
        claim: Claim::default(),
        authorization: None,
        host: None,
        accept: None,
        has_languages: false,
        length,
    };
    let mut close = false;
    for header in parsed.headers.iter() {
        if let Some(trust) = trust
            && trust.header.is(header.name)
        {
            request.claim.add(&trust.header, header.value, &trust.proxies);
        }
        // The length decides nearly always.
        match header.name.len() {
            6 if header.name.eq_ignore_ascii_case("accept") => request.accept = Some(header.value),
            10 if header.name.eq_ignore_ascii_case("connection") => {
                for option in list(header.value) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    request.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            4 if header.name.eq_ignore_ascii_case("host") => request.host = Some(header.value),
            13 if header.name.eq_ignore_ascii_case("authorization") => request.authorization = Some(header.value),
            15 if header.name.eq_ignore_ascii_case("accept-encoding") => request.encoding = encoding(header.value),
            15 if header.name.eq_ignore_ascii_case("accept-language") => request.has_languages = true,
            14 if header.name.eq_ignore_ascii_case("content-length") && header.value != b"0" => {
                return Err(HttpFailure::BodySent);
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => return Err(HttpFailure::BodySent),
            _ => request.proxy = request.proxy.or(proxy::usual(header.name, header.value)),
        }
    }
    // Whatever else is said, and in whatever order (RFC 9112, 9.3).
    request.keep_alive &= !close;
    Ok(Some(request))
}

/// How many bytes of empty lines `input` begins with. They may stand before a request, and are no part
/// of it (RFC 9112, 2.2).
#[must_use]
pub fn empty_lines(input: &[u8]) -> usize {
    let mut rest = input;
    while let [b'\n', after @ ..] | [b'\r', b'\n', after @ ..] = rest {
        rest = after;
    }
    input.len() - rest.len()
}

/// Refuses an incomplete request at once if its method is known to be wrong.
fn early<'a>(parsed: &httparse::Request<'_, '_>) -> Result<Option<Request<'a>>, HttpFailure> {
    match parsed.method {
        Some(_) => method(parsed).map(|_| None),
        None => Ok(None),
    }
}

/// Whether the method is HEAD.
fn method(parsed: &httparse::Request<'_, '_>) -> Result<bool, HttpFailure> {
    match parsed.method {
        Some("GET") => Ok(false),
        Some("HEAD") => Ok(true),
        _ => Err(HttpFailure::MethodNotAllowed),
    }
}

/// Cuts a target into path and query. A target may carry the scheme and the host (RFC 9112, 3.2.2).
fn target(target: &[u8]) -> Result<(&[u8], &[u8]), HttpFailure> {
    let mut rest = target;
    // A client whose announce URL has no path sends none.
    if !matches!(rest, [b'/' | b'?', ..]) {
        let (scheme, authority) = rest.split_at_checked(7).ok_or(HttpFailure::RequestMalformed)?;
        if !scheme.eq_ignore_ascii_case(b"http://") {
            return Err(HttpFailure::RequestMalformed);
        }
        let end = authority.iter().position(|&byte| byte == b'/' || byte == b'?').unwrap_or(authority.len());
        rest = &authority[end..];
    }
    let (path, query) = match rest.iter().position(|&byte| byte == b'?') {
        Some(mark) => (&rest[..mark], &rest[mark + 1..]),
        None => (rest, &rest[rest.len()..]),
    };
    Ok((if path.is_empty() { b"/" } else { path }, query))
}

/// The elements of a comma-separated header value.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

impl Request<'_> {
    /// Whether `Accept` names a media type. Programs that take whatever comes send none or `*/*`.
    #[must_use]
    pub fn asks_for(&self, media_type: &str) -> bool {
        self.accept.is_some_and(|value| {
            list(value).any(|element| {
                let mut parts = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
                parts.next().is_some_and(|name| name.eq_ignore_ascii_case(media_type.as_bytes()))
            })
        })
    }
}

/// The best encoding of an `Accept-Encoding`. A client that takes several encodings has no reason
/// to want the larger body, so weights other than 0 are not compared.
fn encoding(value: &[u8]) -> Encoding {
    let mut best = Encoding::Identity;
    for element in list(value) {
        let mut parts = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let refused = parts.any(|weight| {
            weight.split_at_checked(2).is_some_and(|(key, value)| {
                key.eq_ignore_ascii_case(b"q=") && value.iter().all(|byte| matches!(byte, b'0' | b'.'))
            })
        });
        if refused {
            continue;
        }
        if name.eq_ignore_ascii_case(b"zstd") {
            return Encoding::Zstd;
        }
        if name.eq_ignore_ascii_case(b"gzip") {
            best = Encoding::Gzip;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &'static str, query: &'static str) -> Request<'static> {
        Request {
            head: false,
            path: path.as_bytes(),
            query: query.as_bytes(),
            chunks: true,
            keep_alive: true,
            encoding: Encoding::Identity,
            proxy: None,
            claim: Claim::default(),
            authorization: None,
            host: None,
            accept: None,
            has_languages: false,
            length: 0,
        }
    }

    #[test]
    fn media_types_are_asked_for_by_name() {
        for (accept, html, json) in [
            (None, false, false),
            (Some("*/*"), false, false),
            (Some("application/xml;q=0.9, Text/HTML ;q=1"), true, false),
            (Some("text/htmlx, text/plain, application/jsonp"), false, false),
            (Some("text/html, Application/JSON;q=0.9"), true, true),
        ] {
            let request = Request { accept: accept.map(str::as_bytes), ..request("/", "") };
            assert_eq!(
                [request.asks_for("text/html"), request.asks_for("application/json")],
                [html, json],
                "{accept:?}"
            );
        }
    }

    #[test]
    fn requests_are_understood() {
        let rows = [
            ("GET / HTTP/1.1\r\n\r\n", request("/", "")),
            (
                "GET /announce?a=b?c HTTP/1.1\r\nHost: x\r\n\r\n",
                Request { host: Some(b"x"), ..request("/announce", "a=b?c") },
            ),
            (
                "GET / HTTP/1.1\r\naccept: a/b, c\r\nHOST:\r\n\r\n",
                Request { accept: Some(b"a/b, c"), host: Some(b""), ..request("/", "") },
            ),
            ("\r\nGET /scrape? HTTP/1.1\r\n\r\n", request("/scrape", "")),
            ("GET / HTTP/1.1\nUser-Agent: only line feeds\n\n", request("/", "")),
            ("GET http://tracker:6969/announce?a HTTP/1.1\r\n\r\n", request("/announce", "a")),
            ("GET HTTP://tracker?a HTTP/1.1\r\n\r\n", request("/", "a")),
            ("GET http://tracker HTTP/1.1\r\n\r\n", request("/", "")),
            ("GET ?a HTTP/1.1\r\n\r\n", request("/", "a")),
            ("GET / HTTP/1.1\r\nACCEPT-language:\r\n\r\n", Request { has_languages: true, ..request("/", "") }),
            ("HEAD / HTTP/1.1\r\n\r\n", Request { head: true, ..request("/", "") }),
            ("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", Request { keep_alive: false, ..request("/", "") }),
            ("GET / HTTP/1.1\r\nCONNECTION: x , close\r\n\r\n", Request { keep_alive: false, ..request("/", "") }),
            (
                "GET / HTTP/1.1\r\nConnection: close, keep-alive\r\n\r\n",
                Request { keep_alive: false, ..request("/", "") },
            ),
            ("GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", request("/", "")),
            ("GET / HTTP/1.0\r\n\r\n", Request { chunks: false, keep_alive: false, ..request("/", "") }),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", Request { chunks: false, ..request("/", "") }),
            (
                "GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n",
                Request { chunks: false, keep_alive: false, ..request("/", "") },
            ),
            (
                "GET / HTTP/1.0\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n",
                Request { chunks: false, keep_alive: false, ..request("/", "") },
            ),
            ("GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", request("/", "")),
            (
                "GET / HTTP/1.1\r\nAccept-Encoding: gzip\r\n\r\n",
                Request { encoding: Encoding::Gzip, ..request("/", "") },
            ),
        ];
        for (input, expected) in rows {
            let expected = Request { length: input.len(), ..expected };
            let more = format!("{input}GET");
            assert_eq!(parse(more.as_bytes(), None), Ok(Some(expected)), "{input:?}");
            for end in 0..input.len() {
                assert_eq!(parse(&input.as_bytes()[..end], None), Ok(None), "the first {end} bytes of {input:?}");
            }
        }
    }

    #[test]
    fn empty_lines_before_a_request_are_counted() {
        for (input, bytes) in [
            ("", 0),
            ("GET / HTTP/1.1\r\n", 0),
            ("\r", 0),
            ("\r\n", 2),
            ("\n\r\n\r", 3),
            ("\r\n\r\nGET", 4),
            ("\rGET", 0),
        ] {
            assert_eq!(empty_lines(input.as_bytes()), bytes, "{input:?}");
        }
    }

    #[test]
    fn requests_are_refused() {
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(LONGEST));
        let endless = format!("GET /{}", "x".repeat(LONGEST));
        let headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1));
        let rows = [
            ("GET / HTTP/1.1\r\nno colon\r\n\r\n", HttpFailure::RequestMalformed),
            ("GET / HTTP/1.1\r\nbad name : x\r\n\r\n", HttpFailure::RequestMalformed),
            ("GET / HTTP/1.1\r\na: \0\r\n\r\n", HttpFailure::RequestMalformed),
            ("GET / HTTP/1.1\rX", HttpFailure::RequestMalformed),
            ("GET /an nounce HTTP/1.1\r\n\r\n", HttpFailure::VersionUnsupported),
            ("GET / HTTP/2.0\r\n\r\n", HttpFailure::VersionUnsupported),
            ("GET / FTP/1.1\r\n\r\n", HttpFailure::VersionUnsupported),
            ("G\0T / HTTP/1.1\r\n\r\n", HttpFailure::RequestMalformed),
            ("\x16\x03\x01\x02", HttpFailure::RequestMalformed),
            ("d1:ad2:id20:", HttpFailure::RequestMalformed),
            ("GET * HTTP/1.1\r\n\r\n", HttpFailure::RequestMalformed),
            ("GET announce?a HTTP/1.1\r\n\r\n", HttpFailure::RequestMalformed),
            ("GET ftp://x/ HTTP/1.1\r\n\r\n", HttpFailure::RequestMalformed),
            ("GET https://x/ HTTP/1.1\r\n\r\n", HttpFailure::RequestMalformed),
            ("POST /announce HTTP/1.1\r\n\r\n", HttpFailure::MethodNotAllowed),
            ("POST /announce", HttpFailure::MethodNotAllowed),
            ("get / HTTP/1.1\r\n\r\n", HttpFailure::MethodNotAllowed),
            ("OPTIONS * HTTP/1.1\r\n\r\n", HttpFailure::MethodNotAllowed),
            ("CONNECT x:1 HTTP/1.1\r\n\r\n", HttpFailure::MethodNotAllowed),
            ("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", HttpFailure::BodySent),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", HttpFailure::BodySent),
            (long.as_str(), HttpFailure::HeaderTooLarge),
            (endless.as_str(), HttpFailure::HeaderTooLarge),
            (headers.as_str(), HttpFailure::HeaderTooLarge),
        ];
        for (input, failure) in rows {
            assert_eq!(parse(input.as_bytes(), None), Err(failure), "{input:?}");
        }
    }

    #[test]
    fn the_best_encoding_is_found() {
        let rows = [
            ("", Encoding::Identity),
            ("identity", Encoding::Identity),
            ("br, deflate", Encoding::Identity),
            ("gzip", Encoding::Gzip),
            ("GZIP;q=0.1", Encoding::Gzip),
            ("gzip, deflate, br, zstd", Encoding::Zstd),
            ("zstd;q=0, gzip", Encoding::Gzip),
            ("zstd; q=0.000 ,gzip;Q=0", Encoding::Identity),
            ("*", Encoding::Identity),
            (";,;=q,,", Encoding::Identity),
        ];
        for (value, expected) in rows {
            assert_eq!(encoding(value.as_bytes()), expected, "{value:?}");
        }
    }
}
