//! Bounds of the fault device.

/// Requests that the kernel may have under way at once beside those that somebody waits in. Above what all nodes' rings hold, or a drive
/// that hangs would stop the others.
pub const BACKGROUND_MAX: u16 = 4096;
/// Bytes of a write request at most; the kernel cuts longer ones.
pub const WRITE_LEN_BYTES_MAX: u32 = 1 << 20;
/// Threads that serve requests.
pub const THREADS: usize = 4;
/// Bytes of a volume where nothing else is said: memory is taken for what was written only.
pub const VOLUME_LEN_BYTES: u64 = 1 << 40;
/// Bytes of a command at most.
pub const COMMAND_LEN_BYTES_MAX: u64 = 64 << 10;
/// Volumes at most, far above the drives of a test.
pub const VOLUMES_MAX: usize = 1024;
