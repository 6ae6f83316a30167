//! `If-…` headers, evaluated by RFC 9110 section 13.2.2 as S3 does it.

use crate::date;
use crate::error::{DoorError, DoorResult, ErrorCode};
use crate::head::Head;
use strongroom_types::{Condition, ETag, WallTime};

/// A list of tags: `*`, or `"a", W/"b"`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    Any,
    These(Vec<String>),
}

impl Tags {
    fn parse(text: &str) -> Self {
        if text == "*" {
            return Self::Any;
        }
        // Tags hold no commas here; some clients leave the quotes out.
        Self::These(
            text.split(',')
                .map(|tag| tag.trim().trim_start_matches("W/").trim_matches('"').to_owned())
                .collect(),
        )
    }

    fn matches(&self, etag: &ETag) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|tag| tag == etag.as_str()),
        }
    }
}

/// What a read is to be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The object.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// The conditions of a read, from `if-match` and the like, or from `x-amz-copy-source-if-match` and the like.
#[derive(Clone, Debug, Default)]
pub struct ReadConditions {
    matches: Option<Tags>,
    none_match: Option<Tags>,
    modified_since: Option<WallTime>,
    unmodified_since: Option<WallTime>,
}

impl ReadConditions {
    /// Reads the headers whose names begin with `prefix`. Dates that cannot be read do not count, as HTTP has it.
    ///
    /// # Errors
    /// `InvalidArgument` for a header that is no UTF-8.
    pub fn new(head: &Head, prefix: &str) -> DoorResult<Self> {
        let header = |name: &str| head.header(&format!("{prefix}{name}"));
        Ok(Self {
            matches: header("if-match")?.map(Tags::parse),
            none_match: header("if-none-match")?.map(Tags::parse),
            modified_since: header("if-modified-since")?.and_then(date::parse_http),
            unmodified_since: header("if-unmodified-since")?.and_then(date::parse_http),
        })
    }

    /// Decides for an object with this tag and date.
    pub fn evaluate(&self, etag: &ETag, modified: WallTime) -> Outcome {
        let after = |since: WallTime| date::seconds(modified) > date::seconds(since);
        let passed = match (&self.matches, self.unmodified_since) {
            (Some(tags), _) => tags.matches(etag),
            (None, Some(since)) => !after(since),
            (None, None) => true,
        };
        if !passed {
            return Outcome::Failed;
        }
        let fresh = match (&self.none_match, self.modified_since) {
            (Some(tags), _) => !tags.matches(etag),
            (None, Some(since)) => after(since),
            (None, None) => true,
        };
        if fresh { Outcome::Proceed } else { Outcome::NotModified }
    }
}

/// The refusal of a condition that does not hold.
pub fn failed(name: &str) -> DoorError {
    DoorError::new(
        ErrorCode::PreconditionFailed,
        "At least one of the pre-conditions you specified did not hold",
    )
    .with("Condition", name)
}

/// The condition of a write: `If-None-Match: *` or `If-Match: tag`.
///
/// # Errors
/// `NotImplemented` for the forms that S3 does not take either.
pub fn of_write(head: &Head) -> DoorResult<Condition> {
    let unsupported = |what: &str| DoorError::not_implemented(format!("{what} on this operation"));
    for name in ["if-modified-since", "if-unmodified-since"] {
        if head.headers.contains_key(name) {
            return Err(unsupported(name));
        }
    }
    match (head.header("if-none-match")?, head.header("if-match")?) {
        (None, None) => Ok(Condition::None),
        (Some("*"), None) => Ok(Condition::Absent),
        (Some(_), None) => Err(unsupported("If-None-Match other than *")),
        (None, Some("*")) => Ok(Condition::Present),
        (None, Some(tag)) if tag.contains(',') => Err(unsupported("If-Match with several tags")),
        (None, Some(tag)) => Ok(Condition::Matches(ETag::new(tag))),
        (Some(_), Some(_)) => Err(unsupported("If-Match together with If-None-Match")),
    }
}

/// Whether a range may be answered with a part: without `If-Range`, or where it names the object as it is.
///
/// # Errors
/// `InvalidArgument` for a header that is no UTF-8.
pub fn range_applies(head: &Head, etag: &ETag, modified: WallTime) -> DoorResult<bool> {
    Ok(match head.header("if-range")? {
        None => true,
        Some(text) if text.starts_with('"') => text.trim_matches('"') == etag.as_str(),
        Some(text) => {
            date::parse_http(text).is_some_and(|since| date::seconds(since) == date::seconds(modified))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(headers: &[(&str, &str)]) -> Head {
        let mut request = http::Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Head::new(request.body(()).unwrap().into_parts().0).unwrap()
    }

    #[test]
    fn reads_are_decided_in_the_order_of_the_rfc() {
        let (before, at, after) = (
            "Thu, 23 May 2013 00:00:00 GMT",
            "Fri, 24 May 2013 00:00:00 GMT",
            "Sat, 25 May 2013 00:00:00 GMT",
        );
        // Half a second later than the header can say: still not modified since.
        let modified = WallTime::from_unix_millis(1_369_353_600_500);
        let etag = ETag::new("tag");
        use Outcome::{Failed, NotModified, Proceed};
        for (headers, outcome) in [
            (&[][..], Proceed),
            (&[("if-match", "\"tag\"")][..], Proceed),
            (&[("if-match", "tag")], Proceed),
            (&[("if-match", "*")], Proceed),
            (&[("if-match", "\"a\", \"tag\"")], Proceed),
            (&[("if-match", "\"other\"")], Failed),
            (&[("if-none-match", "\"tag\"")], NotModified),
            (&[("if-none-match", "W/\"tag\"")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"other\"")], Proceed),
            (&[("if-modified-since", before)], Proceed),
            (&[("if-modified-since", at)], NotModified),
            (&[("if-modified-since", after)], NotModified),
            (&[("if-modified-since", "yesterday")], Proceed),
            (&[("if-unmodified-since", before)], Failed),
            (&[("if-unmodified-since", at)], Proceed),
            (&[("if-unmodified-since", after)], Proceed),
            (&[("if-match", "\"tag\""), ("if-unmodified-since", before)], Proceed),
            (&[("if-none-match", "\"tag\""), ("if-modified-since", before)], NotModified),
            (&[("if-none-match", "\"other\""), ("if-modified-since", after)], Proceed),
            (&[("if-match", "\"other\""), ("if-none-match", "\"tag\"")], Failed),
        ] {
            let conditions = ReadConditions::new(&head(headers), "").unwrap();
            assert_eq!(conditions.evaluate(&etag, modified), outcome, "{headers:?}");
        }
    }

    #[test]
    fn writes_take_the_conditions_of_s3_only() {
        assert_eq!(of_write(&head(&[])), Ok(Condition::None));
        assert_eq!(of_write(&head(&[("if-none-match", "*")])), Ok(Condition::Absent));
        assert_eq!(of_write(&head(&[("if-match", "*")])), Ok(Condition::Present));
        assert_eq!(of_write(&head(&[("if-match", "\"t\"")])), Ok(Condition::Matches(ETag::new("t"))));
        for bad in [
            &[("if-none-match", "\"t\"")][..],
            &[("if-match", "\"t\", \"u\"")],
            &[("if-match", "*"), ("if-none-match", "*")],
            &[("if-modified-since", "Fri, 24 May 2013 00:00:00 GMT")],
        ] {
            assert_eq!(of_write(&head(bad)).map_err(|e| e.code), Err(ErrorCode::NotImplemented), "{bad:?}");
        }
    }
}
