use super::{Answer, Part, error, judge_part};
use crate::sim::operation::Outcome;
use bytes::Bytes;
use http::StatusCode;

fn answer(status: StatusCode, body: &str) -> Answer {
    let body = Some(Bytes::copy_from_slice(body.as_bytes()));
    Answer { status, etag: String::new(), version: None, len_bytes: None, body }
}

fn refusal(status: StatusCode, code: &str) -> Answer {
    answer(status, &format!("<Error><Code>{code}</Code><Message>why</Message></Error>"))
}

#[test]
fn a_part_is_that_part_or_the_object_changed_or_it_is_an_error_that_passes() {
    let of = |answer: &Answer| judge_part(answer, b"part");
    assert_eq!(of(&answer(StatusCode::PARTIAL_CONTENT, "part")), Part::Fits);
    assert_eq!(of(&Answer { body: None, ..answer(StatusCode::PARTIAL_CONTENT, "") }), Part::Fits);
    assert_eq!(of(&refusal(StatusCode::PRECONDITION_FAILED, "PreconditionFailed")), Part::Fits);
    assert_eq!(of(&refusal(StatusCode::NOT_FOUND, "NoSuchKey")), Part::Fits, "deleted in between");
    assert!(matches!(of(&answer(StatusCode::PARTIAL_CONTENT, "port")), Part::Wrong(_)));
    assert!(matches!(of(&answer(StatusCode::OK, "the part and all else")), Part::Wrong(_)));
    for (status, code, passes) in [
        (StatusCode::SERVICE_UNAVAILABLE, "SlowDown", true),
        (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", true),
        (StatusCode::INTERNAL_SERVER_ERROR, "InternalError", true),
        (StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", false),
        (StatusCode::NOT_FOUND, "NoSuchBucket", false),
        (StatusCode::FORBIDDEN, "SignatureDoesNotMatch", false),
    ] {
        let answer = refusal(status, code);
        assert_eq!(of(&answer), Part::Failed, "{code}");
        assert_eq!(!matches!(error(&answer), Outcome::Wrong(_)), passes, "{code}");
    }
}
