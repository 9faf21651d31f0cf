//! The pages for browsers: one self-contained document each, which may load and run nothing but what is
//! in it. Both begin with the same head and colours (`head.html`), up to the middle of the style.
//!
//! | module | does |
//! |---|---|
//! | [`events`] | the operator's figures, once a second for as long as somebody listens |
//! | [`public`] | what strangers see |

pub mod events;
pub mod public;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

/// Media type of the pages.
pub const HTML: &str = "text/html; charset=utf-8";

/// The operator's page.
pub const OPERATOR: &str = concat!(include_str!("head.html"), include_str!("operator.html"));

/// Header lines of answers that are of this moment.
pub const NOT_STORED: &str = "Cache-Control: no-store\r\n";

/// Header lines of the operator's page.
pub static OPERATOR_LINES: LazyLock<String> = LazyLock::new(|| lines(OPERATOR));

/// Header lines of a page: it may use its own style and script, which are named by their hashes, and
/// ask this server.
fn lines(page: &str) -> String {
    let hash = |element: &str| {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let inside = page.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
        BASE64_STANDARD.encode(Sha256::digest(inside.map_or("", |(inside, _)| inside)))
    };
    format!(
        "Content-Security-Policy: default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
         X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-cache\r\n",
        hash("script"),
        hash("style")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_of_one_file_and_say_so() {
        for page in [OPERATOR, public::PAGE] {
            for element in ["style", "script"] {
                assert_eq!(page.matches(&format!("<{element}")).count(), 1, "one {element}, without attributes");
            }
            for outside in ["http://", "https://", "//", "@import", "url("] {
                let used = |line: &&str| line.contains(outside) && !line.contains("www.w3.org/2000/svg");
                let used = page.lines().filter(used).find(|line| !line.trim_start().starts_with("// "));
                assert_eq!(used, None, "{outside}");
            }
            assert!(!page.contains(" style="), "styles of elements are not allowed");
            let lines = lines(page);
            assert_eq!(lines.matches("'sha256-").count(), 2);
            assert!(!lines.contains("'sha256-47DEQpj8HBSa"), "that of nothing: {lines}");
            assert!(lines.lines().all(|line| line.contains(": ")) && lines.ends_with("\r\n"), "{lines}");
        }
    }
}
