//! `Range: bytes=…` over an object of known length.

use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The whole object: no range, several ranges, or one that is not understood, as HTTP allows.
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// Nothing of the object: 416.
    Unsatisfiable,
}

/// Selects from an object of `len_bytes`.
pub fn select(header: Option<&str>, len_bytes: u64) -> Selection {
    let Some((first, last)) = header.and_then(parse) else { return Selection::Whole };
    let range = match (first, last) {
        (Some(first), Some(last)) if last < first => return Selection::Whole,
        (Some(first), Some(last)) => first..last.saturating_add(1).min(len_bytes),
        (Some(first), None) => first..len_bytes,
        (None, Some(suffix)) => len_bytes.saturating_sub(suffix)..len_bytes,
        (None, None) => return Selection::Whole,
    };
    if range.start < range.end { Selection::Part(range) } else { Selection::Unsatisfiable }
}

/// `bytes=first-last`, either of which may be left out.
fn parse(header: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, spec) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = spec.trim().split_once('-')?;
    let number = |text: &str| match text {
        "" => Some(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            // A number above 2^64 is beyond every object.
            Some(Some(digits.parse().unwrap_or(u64::MAX)))
        }
        _ => None,
    };
    Some((number(first)?, number(last)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_all_forms() {
        use Selection::{Part, Unsatisfiable, Whole};
        for (header, expected) in [
            ("bytes=0-0", Part(0..1)),
            ("bytes=2-5", Part(2..6)),
            ("bytes=9-9", Part(9..10)),
            ("bytes=9-10", Part(9..10)),
            ("bytes=3-", Part(3..10)),
            ("bytes=-3", Part(7..10)),
            ("bytes=-10", Part(0..10)),
            ("bytes=-11", Part(0..10)),
            ("Bytes=0-99999999999999999999999999", Part(0..10)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=10-20", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=99999999999999999999999999-", Unsatisfiable),
            ("bytes=5-2", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=0-1,3-4", Whole),
            ("items=0-1", Whole),
            ("0-1", Whole),
        ] {
            assert_eq!(select(Some(header), 10), expected, "{header}");
        }
        assert_eq!(select(None, 10), Whole);
        assert_eq!(select(Some("bytes=0-"), 0), Unsatisfiable);
        assert_eq!(select(Some("bytes=-1"), 0), Unsatisfiable);
    }
}
