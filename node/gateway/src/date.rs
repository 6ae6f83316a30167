//! The three forms of a date at the door: `20130524T000000Z` in signatures, IMF-fixdate in headers, RFC 3339 in XML.

use strongroom_types::WallTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

const AMZ: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");
const HTTP: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
const XML: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

fn offset(at: WallTime) -> OffsetDateTime {
    // The calendar of `time` ends with the year 9999; a wall clock beyond it is shown as the epoch, never a panic.
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.as_unix_millis()) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn format(at: WallTime, form: &[BorrowedFormatItem<'_>]) -> String {
    offset(at).format(form).expect("each form has components of a date and a time only, and no narrow fields")
}

fn parse(text: &str, form: &[BorrowedFormatItem<'_>]) -> Option<WallTime> {
    let at = PrimitiveDateTime::parse(text, form).ok()?.assume_utc().unix_timestamp();
    u64::try_from(at).ok()?.checked_mul(1000).map(WallTime::from_unix_millis)
}

/// `20130524T000000Z`.
pub fn amz(at: WallTime) -> String {
    format(at, AMZ)
}

/// Reads `20130524T000000Z`.
pub fn parse_amz(text: &str) -> Option<WallTime> {
    parse(text, AMZ)
}

/// `Fri, 24 May 2013 00:00:00 GMT`.
pub fn http(at: WallTime) -> String {
    format(at, HTTP)
}

/// Reads `Fri, 24 May 2013 00:00:00 GMT`; also with `+0000` or `UTC` in place of `GMT`, as some clients write it.
pub fn parse_http(text: &str) -> Option<WallTime> {
    let text = text.trim();
    let base = ["GMT", "UTC", "+0000"].iter().find_map(|zone| text.strip_suffix(zone))?;
    parse(&format!("{base}GMT"), HTTP)
}

/// `2013-05-24T00:00:00.000Z`.
pub fn xml(at: WallTime) -> String {
    format(at, XML)
}

/// Seconds since the Unix epoch.
pub fn seconds(at: WallTime) -> u64 {
    at.as_unix_millis() / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_and_read_in_all_forms() {
        let at = WallTime::from_unix_millis(1_369_353_600_000);
        assert_eq!(amz(at), "20130524T000000Z");
        assert_eq!(http(at), "Fri, 24 May 2013 00:00:00 GMT");
        assert_eq!(xml(at), "2013-05-24T00:00:00.000Z");
        assert_eq!(parse_amz("20130524T000000Z"), Some(at));
        assert_eq!(parse_http("Fri, 24 May 2013 00:00:00 GMT"), Some(at));
        assert_eq!(parse_http("Fri, 24 May 2013 00:00:00 +0000"), Some(at));
        for bad in
            ["", "20130524", "20130524T000000", "20131324T000000Z", "Fri, 24 May 2013", "20130524T000000Zx"]
        {
            assert_eq!(parse_amz(bad), None, "{bad}");
            assert_eq!(parse_http(bad), None, "{bad}");
        }
        assert_eq!(xml(WallTime::from_unix_millis(u64::MAX)), "1970-01-01T00:00:00.000Z");
    }
}
