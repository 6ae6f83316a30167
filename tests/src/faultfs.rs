//! A fault device: a file system in user space that real processes keep their drives and state on, with faults on command.
//!
//! ```text
//! content   one file's bytes, with a volatile cache: what a power cut may take back
//! tree      folders and their journal
//! weather   what goes wrong, and counts of what did
//! volume    a tree, its weather, its seed
//! volumes   all volumes by name
//! control   commands as lines of JSON, over a Unix socket
//! mount     the volumes as folders of one mounted file system (FUSE)
//! ```
//!
//! Each volume stands for one device: a folder below the mount point. Its bytes are in memory, as much as was written. Nothing is cached
//! in the kernel (each file is opened for direct I/O), so what a process wrote and did not flush is here, and a power cut takes it back:
//! any part of the sectors, torn at 512 or 4096 bytes; of folders and lengths, all behind some point of the journal, as ext4 with
//! `data=ordered` does it. What a volume does follows from its seed and the order of its operations; that order is the kernel's, so runs
//! of real processes do not repeat.
//!
//! Not modelled: hard links, symbolic links, times, owners, space of the file system's own records, several devices behind one volume.
//!
//! By itself: `faultfs --mount DIR --volume NAME … --control SOCKET`, then for instance
//! `echo '{"do":"weather","volumes":["a"],"weather":{"read_error_per_million":1000}}' | nc -U SOCKET`. It needs `/dev/fuse`, and to be
//! root or to have `fusermount3` (package fuse3).

pub mod limits;

pub mod content;
pub mod control;
pub mod mount;
pub mod tree;
pub mod volume;
pub mod volumes;
pub mod weather;

#[cfg(test)]
mod tests;
