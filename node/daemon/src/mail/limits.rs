//! Bounds on mail that is taken in, with the arithmetic that sets them.

/// Bytes of one mail at most. The design counts on 50 MB; mail servers accept up to 50 MB of attachments, which base64
/// makes 4/3 as long: 64 MiB and some, so the bound sits just above what they let through.
pub const MAIL_LEN_BYTES_MAX: u64 = 72 * 1024 * 1024;
/// Bytes of a mail's name at most: those of an object key.
pub const NAME_LEN_BYTES_MAX: usize = 1024;
/// Bytes that are read from an mbox at once.
pub(super) const READ_BUFFER_LEN_BYTES: usize = 256 * 1024;
/// How deep below the folder that was named anything is looked at: each component takes at least one byte and a slash of the
/// name, so a file at this depth has a name that is refused, and a folder here is refused for the same reason.
pub(super) const DEPTH_MAX: usize = NAME_LEN_BYTES_MAX / 2 + 1;

/// Bytes of a generated mail at least and at most: 1 KiB holds its headers, 50 MiB is where the design's mail ends.
pub(super) const GENERATED_LEN_BYTES_MIN: usize = 1024;
/// See [`GENERATED_LEN_BYTES_MIN`].
pub(super) const GENERATED_LEN_BYTES_MAX: usize = 50 * 1024 * 1024;

const _: () = assert!(2 * DEPTH_MAX - 1 > NAME_LEN_BYTES_MAX);
const _: () = assert!(GENERATED_LEN_BYTES_MAX as u64 <= MAIL_LEN_BYTES_MAX);
const _: () = assert!(50_000_000 / 3 * 4 < MAIL_LEN_BYTES_MAX);
