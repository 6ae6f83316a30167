//! What comes in, checked before anything is done: bodies, queries and parts of paths, each refusal with the field and what was expected.

use super::problem::{Problem, Sort};
use crate::limits::{CONTROL_BODY_LEN_BYTES_MAX, CONTROL_BODY_PATIENCE, CONTROL_BODY_TAKEN_LEN_BYTES_MAX};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use http::header;
use http::request::Parts;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

/// A JSON body.
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        check_content_type(&request)?;
        let bytes = body(request).await?;
        let mut deserializer = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| bad_input("body", &error.path().to_string(), &error.inner().to_string()))?;
        deserializer.end().map_err(|error| bad_input("body", ".", &error.to_string()))?;
        Ok(Self(value))
    }
}

fn check_content_type(request: &Request) -> Result<(), Problem> {
    const EXPECTED: &str = "application/json";
    let found = request.headers().get(header::CONTENT_TYPE);
    let found = found.map_or("", |value| value.to_str().unwrap_or("one that is not text"));
    let essence = found.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(EXPECTED) {
        return Ok(());
    }
    let detail = match found {
        "" => format!("the body has no content type: send it with `content-type: {EXPECTED}`"),
        found => format!("the body is {found:?}: send JSON with `content-type: {EXPECTED}`"),
    };
    Err(Problem::new(Sort::WrongContentType, detail).with_field("content-type").with_expected(EXPECTED))
}

/// The refusal of a body that is longer than may be.
fn too_large() -> Problem {
    let detail = format!("the body has more than {CONTROL_BODY_LEN_BYTES_MAX} bytes; nothing was done");
    Problem::new(Sort::TooLarge, detail).with_expected(format!("at most {CONTROL_BODY_LEN_BYTES_MAX} bytes"))
}

/// A whole body, of at most as many bytes as an order may have. Somewhat more is taken and thrown away: a client that still writes when its connection is
/// closed may never see why.
async fn body(request: Request) -> Result<Vec<u8>, Problem> {
    let collected = async {
        let (mut body, mut kept, mut len_bytes) = (request.into_body(), Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|error| Problem::new(Sort::BadInput, format!("the body broke off: {error}")))?;
            let data = frame.into_data().unwrap_or_default();
            len_bytes += data.len();
            if len_bytes <= CONTROL_BODY_LEN_BYTES_MAX {
                kept.extend_from_slice(&data);
            }
            if len_bytes > CONTROL_BODY_TAKEN_LEN_BYTES_MAX {
                break;
            }
        }
        if len_bytes > CONTROL_BODY_LEN_BYTES_MAX { Err(too_large()) } else { Ok(kept) }
    };
    match tokio::time::timeout(CONTROL_BODY_PATIENCE, collected).await {
        Ok(result) => result,
        Err(_) => {
            let seconds = CONTROL_BODY_PATIENCE.as_secs();
            Err(Problem::new(Sort::TooSlow, format!("the body did not come within {seconds} s")))
        }
    }
}

/// Refuses a body that is said to be too long, be one wanted or not.
pub async fn check_said_length(request: Request) -> Result<Request, Problem> {
    let said = request.headers().get(header::CONTENT_LENGTH);
    let said = said.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match said {
        Some(bytes) if bytes > CONTROL_BODY_TAKEN_LEN_BYTES_MAX as u64 => Err(too_large()),
        Some(bytes) if bytes > CONTROL_BODY_LEN_BYTES_MAX as u64 => {
            body(request).await?;
            Err(too_large())
        }
        _ => Ok(request),
    }
}

/// A query string.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => {
                let words = rejection.body_text();
                let words = words.strip_prefix("Failed to deserialize query string: ").unwrap_or(&words);
                // As in `field: words`, where a field is known.
                let (path, words) = words.split_once(": ").unwrap_or((".", words));
                let is_name = |path: &str| path.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                let (path, words) =
                    if is_name(path) { (path.to_owned(), words) } else { (String::from("."), words) };
                Err(bad_input("query", &path, words))
            }
        }
    }
}

/// The id of a job in the path.
pub struct JobPath(pub u64);

impl<S: Send + Sync> FromRequestParts<S> for JobPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let id = text(parts, state).await;
        id.parse().map(Self).map_err(|_| {
            let detail = format!("{id:?} is no job's id: `GET /v1/jobs` lists the jobs of this node");
            Problem::new(Sort::BadInput, detail).with_field("id").with_expected("a number")
        })
    }
}

/// A name in the path, whatever it is.
pub struct NamePath(pub String);

impl<S: Send + Sync> FromRequestParts<S> for NamePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Ok(Self(text(parts, state).await))
    }
}

/// The one variable part of the path. One that is no text fits nothing.
async fn text<S: Send + Sync>(parts: &mut Parts, state: &S) -> String {
    match Path::<String>::from_request_parts(parts, state).await {
        Ok(Path(text)) => text,
        Err(_) => String::from("\u{fffd}"),
    }
}

/// A refusal from what the parser says of the place `path`, `.` being the whole.
fn bad_input(whole: &'static str, path: &str, words: &str) -> Problem {
    let words = words.split(" at line ").next().unwrap_or(words);
    // A field that is missing, or that nobody knows, is named in the words.
    let quoted = words.split('`').nth(1).filter(|_| words.contains(" field `"));
    let field = match path {
        "." | "?" | "" => quoted.unwrap_or(whole),
        path => path,
    };
    let problem = Problem::new(Sort::BadInput, format!("{field}: {words}")).with_field(field);
    match words.split_once("expected ") {
        Some((_, expected)) => problem.with_expected(expected.replace('`', "")),
        None if words.starts_with("missing field") => problem.with_expected("a value"),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::bad_input;

    #[test]
    fn what_a_parser_says_becomes_a_field_and_what_was_expected() {
        for (path, words, field, expected) in [
            (
                "dry_run",
                "invalid type: integer `1`, expected a boolean at line 1 column 9",
                "dry_run",
                Some("a boolean"),
            ),
            (".", "missing field `kind` at line 1 column 2", "kind", Some("a value")),
            ("kind", "unknown variant `x`, expected `seal` or `convert`", "kind", Some("seal or convert")),
            ("colour", "unknown field `colour`, expected `kind`", "colour", Some("kind")),
            (".", "unknown field `colour`, expected `kind`", "colour", Some("kind")),
            (".", "EOF while parsing an object at line 1 column 1", "body", None),
        ] {
            let problem = bad_input("body", path, words);
            assert_eq!(problem.field.as_deref(), Some(field), "{words}");
            assert_eq!(problem.expected.as_deref(), expected, "{words}");
            assert_eq!(problem.status, 400);
        }
    }
}
