//! What to do after the system answered a request to transfer bytes.
//!
//! Shared by the backends, so that they agree: an error of the device is surfaced at once and never retried
//! (whoever stores data decides what a bad drive means); a short transfer, or one that a signal or a full
//! queue kept from happening, is asked for once more; the second time it is an error.

use crate::device::DeviceError;
use crate::limits::BLOCK_LEN_BYTES;
use std::io;

/// A read or write under way.
#[derive(Debug)]
pub(crate) struct Transfer {
    offset_bytes: u64,
    len_bytes: usize,
    done_bytes: usize,
    asked_again: bool,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Step {
    /// All is transferred.
    Done,
    /// Ask for the rest.
    Again,
    /// It failed.
    Failed(DeviceError),
}

impl Transfer {
    /// A transfer of which nothing is done.
    pub(crate) fn new(offset_bytes: u64, len_bytes: usize) -> Self {
        Self { offset_bytes, len_bytes, done_bytes: 0, asked_again: false }
    }

    /// From which byte of the buffer on to ask; a multiple of a block.
    pub(crate) fn resume_bytes(&self) -> usize {
        self.done_bytes
    }

    /// Which byte of the device that is.
    pub(crate) fn next_offset_bytes(&self) -> u64 {
        self.offset_bytes + self.done_bytes as u64
    }

    /// Takes the system's answer.
    pub(crate) fn next(&mut self, answer: io::Result<usize>) -> Step {
        let (offset_bytes, len_bytes) = (self.offset_bytes, self.len_bytes as u64);
        let now_bytes = match answer {
            Ok(now_bytes) => now_bytes,
            Err(source) => {
                // Neither is a word of the device about its media.
                let not_tried =
                    matches!(source.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock);
                if not_tried && !self.asked_again {
                    self.asked_again = true;
                    return Step::Again;
                }
                return Step::Failed(DeviceError::Io { offset_bytes, len_bytes, source });
            }
        };
        let done_bytes = self.done_bytes + now_bytes;
        assert!(done_bytes <= self.len_bytes, "the system transferred more than it was asked for");
        if done_bytes == self.len_bytes {
            return Step::Done;
        }
        if self.asked_again {
            return Step::Failed(DeviceError::Short {
                offset_bytes,
                len_bytes,
                done_bytes: done_bytes as u64,
            });
        }
        self.asked_again = true;
        // Direct I/O goes on at a block only; a block that was done in part is done again.
        self.done_bytes = done_bytes - done_bytes % BLOCK_LEN_BYTES;
        Step::Again
    }
}

#[cfg(test)]
mod tests {
    use super::{DeviceError, Step, Transfer};
    use std::io;

    fn errno(number: i32) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(number))
    }

    #[test]
    fn whole_is_done() {
        assert!(matches!(Transfer::new(0, 8192).next(Ok(8192)), Step::Done));
    }

    #[test]
    fn short_goes_on_at_a_block_once() {
        let mut transfer = Transfer::new(40960, 12288);
        assert!(matches!(transfer.next(Ok(4096 + 512)), Step::Again));
        assert_eq!((transfer.resume_bytes(), transfer.next_offset_bytes()), (4096, 45056));
        assert!(matches!(transfer.next(Ok(8192)), Step::Done));
    }

    #[test]
    fn short_twice_is_an_error() {
        let mut transfer = Transfer::new(0, 12288);
        assert!(matches!(transfer.next(Ok(4096)), Step::Again));
        let step = transfer.next(Ok(4096));
        assert!(matches!(step, Step::Failed(DeviceError::Short { done_bytes: 8192, len_bytes: 12288, .. })));
    }

    #[test]
    fn a_device_error_is_never_retried() {
        let step = Transfer::new(0, 4096).next(errno(libc::EIO));
        assert!(matches!(step, Step::Failed(DeviceError::Io { .. })));
    }

    #[test]
    fn a_signal_is_no_device_error_but_has_an_end() {
        let mut transfer = Transfer::new(0, 4096);
        assert!(matches!(transfer.next(errno(libc::EINTR)), Step::Again));
        assert!(matches!(transfer.next(errno(libc::EAGAIN)), Step::Failed(DeviceError::Io { .. })));
    }
}
