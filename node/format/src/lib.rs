//! Bytes on disk and on the wire: how they are laid out, encoded and checked. Pure; every parser is total: it never panics
//! on any input and never allocates by a length it has not checked. FORMAT.md beside this crate has the byte tables.

// Lowest first, importing only from above; the blank lines keep rustfmt from sorting them.
pub mod error;

pub mod checksum;

pub mod block;

pub mod superblock;

pub mod extent;

pub mod row;

pub mod needle;

pub mod seal_mark;

pub mod cold;

pub mod wire;

pub mod fuzz;

pub use block::Block;
pub use checksum::FragmentKey;
pub use error::{FormatError, Structure};
