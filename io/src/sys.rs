//! The few system calls that have no safe form in the libraries: questions and hints to block devices.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

mod number {
    nix::ioctl_read!(blkgetsize64, 0x12, 114, u64);
    nix::ioctl_read_bad!(blksszget, nix::request_code_none!(0x12, 104), libc::c_int);
    nix::ioctl_write_ptr_bad!(blkdiscard, nix::request_code_none!(0x12, 119), [u64; 2]);
}

/// Bytes of a block device.
pub(crate) fn block_device_len_bytes(file: &File) -> io::Result<u64> {
    let mut len_bytes = 0u64;
    // SAFETY: the descriptor is open as long as `file` is borrowed; the call writes one u64, and that is what
    // it gets. On anything but a block device it fails and writes nothing.
    unsafe { number::blkgetsize64(file.as_raw_fd(), &mut len_bytes) }?;
    Ok(len_bytes)
}

/// Bytes of the unit that a block device reads and writes as a whole.
pub(crate) fn logical_block_len_bytes(file: &File) -> io::Result<u32> {
    let mut len_bytes: libc::c_int = 0;
    // SAFETY: as above, with one C int.
    unsafe { number::blksszget(file.as_raw_fd(), &mut len_bytes) }?;
    u32::try_from(len_bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Tells a block device that a range holds nothing any more.
pub(crate) fn discard(file: &File, offset_bytes: u64, len_bytes: u64) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file` is borrowed; the call reads two u64 behind the pointer
    // and keeps none.
    unsafe { number::blkdiscard(file.as_raw_fd(), &[offset_bytes, len_bytes]) }?;
    Ok(())
}
