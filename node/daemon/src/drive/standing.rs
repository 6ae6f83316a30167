//! Whether a drive's word counts: what it says of what is here, against what it once acknowledged.
//!
//! Checksums tell damaged bytes from whole ones. They cannot tell a drive that came back as it was last week: every block of it is whole, and it
//! knows nothing of what it acknowledged since. So each opening raises the superblock's incarnation before anything is answered, and the cluster,
//! which remembers the last one it saw, says whether the drive is the one it was. Until then its absences and its row counts are not told.

use strongroom_format::wire::message::Refusal;

/// What the word of a drive is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has compared its incarnation yet: reads are served, fences wait.
    Awaited,
    /// The drive is the one it was.
    Admitted,
    /// An image from before the cluster saw it last. Its blocks are whole, so it may be read; nothing new is written to it and nothing it lacks
    /// is called absent.
    Stale,
    /// The device under it is not this drive any more: erased, exchanged, or opened by somebody else.
    Replaced,
}

/// What is asked of a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Bytes.
    Read,
    /// A row, a piece, the end of a cold fragment: something new.
    Write,
    /// A fence, and with it a word on what is here.
    Fence,
    /// The agreed length, of a fragment that is fenced here.
    Settle,
    /// Space back.
    Free,
    /// Another incarnation.
    Raise,
    /// Whether a fragment that is not known here is elsewhere.
    Absence,
}

impl Standing {
    /// Why it is not done; `None` where it is.
    pub(super) fn refusal(self, ask: Ask) -> Option<Refusal> {
        match (self, ask) {
            (Self::Admitted, _) | (Self::Awaited | Self::Stale, Ask::Read | Ask::Free | Ask::Raise) => None,
            (Self::Awaited, Ask::Write | Ask::Settle) => None,
            (Self::Awaited, Ask::Fence | Ask::Absence) => Some(Refusal::Busy),
            (Self::Stale, Ask::Write | Ask::Fence | Ask::Settle | Ask::Absence) | (Self::Replaced, _) => {
                Some(Refusal::DriveError)
            }
        }
    }
}
