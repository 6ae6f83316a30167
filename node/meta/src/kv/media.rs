//! Reads that the media refuses.
//!
//! A sector that cannot be read is as lost as one that reads wrong, and the same comes of it: the peers have what was there. But a drive that
//! was busy with itself may give it the next time, so it is asked once more. Writes are not tried again: the kernel forgets what it
//! could not write once it has said so, and the second try is told a lie.

use std::io;

/// Linux's numbers of errors that say so: EIO, and EBADMSG and EUCLEAN, by which file systems say that their own checksums do not match.
const REFUSED: [i32; 3] = [5, 74, 117];

/// Whether the media does not give back what was written to it.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|number| REFUSED.contains(&number))
}

/// Reads; a second time where the media refuses. One that refuses again gives `InvalidData`, as if it had given other bytes.
pub(super) fn reading_file<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match read() {
        Err(first) if is_refusal(&first) => {
            tracing::warn!(%first, "the state directory's media does not give back what was written; it is asked once more");
            read().map_err(|again| match is_refusal(&again) {
                true => io::Error::new(io::ErrorKind::InvalidData, again),
                false => again,
            })
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::{REFUSED, reading_file};
    use std::io;

    fn after(errors: &[i32]) -> (io::Result<&'static str>, usize) {
        let (mut left, mut tries) = (errors.iter(), 0);
        let read = reading_file(|| {
            tries += 1;
            left.next().map_or(Ok("read"), |error| Err(io::Error::from_raw_os_error(*error)))
        });
        (read, tries)
    }

    #[test]
    fn a_refusal_is_tried_once_more_and_then_stands_for_lost_bytes() {
        const EMFILE: i32 = 24;
        for refused in REFUSED {
            assert!(matches!(after(&[refused]), (Ok("read"), 2)));
            let (read, tries) = after(&[refused, refused, refused]);
            assert_eq!((read.unwrap_err().kind(), tries), (io::ErrorKind::InvalidData, 2));
            let (read, _) = after(&[refused, EMFILE]);
            assert_eq!(read.unwrap_err().raw_os_error(), Some(EMFILE));
        }
        let (read, tries) = after(&[EMFILE]);
        assert_eq!((read.unwrap_err().raw_os_error(), tries), (Some(EMFILE), 1));
    }
}
