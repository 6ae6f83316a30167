//! The volumes as folders of one mounted file system.
//!
//! Files are opened for direct I/O, so that the kernel keeps no page of them, and nothing about names or lengths is kept longer than an
//! answer: what a volume says is what processes see, also right after a power cut. Locks are the kernel's own.

use super::limits::{BACKGROUND_MAX, THREADS, VOLUME_LEN_BYTES, WRITE_LEN_BYTES_MAX};
use super::tree;
use super::volume::{Answer, Handle, Held, Look};
use super::volumes::{Shared, Volumes};
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite,
    Request, TimeOrNow, WriteFlags,
};
use nix::mount::MntFlags;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Bits of a file's number within its volume; the volume's place lies above.
const NUMBER_BITS: u32 = 40;
/// Nothing is kept by the kernel.
const KEPT: Duration = Duration::ZERO;
/// Between two looks whether an answer may go.
const HELD_POLL: Duration = Duration::from_millis(5);
/// What the mount table calls it.
pub const SUBTYPE: &str = "strongroom-faultfs";

/// A mounted device. Dropping it takes it away, also under processes that use it.
pub struct Mounted {
    path: PathBuf,
    session: Option<BackgroundSession>,
}

impl Mounted {
    /// Mounts the volumes on a folder, under a name for the mount table.
    ///
    /// # Errors
    /// No `/dev/fuse`, not allowed, or the folder is not there.
    pub fn new(volumes: &Arc<Volumes>, path: &Path, name: &str) -> io::Result<Self> {
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName(name.to_owned()),
            MountOption::Subtype(SUBTYPE.to_owned()),
            MountOption::NoDev,
            MountOption::NoSuid,
        ];
        config.n_threads = Some(THREADS);
        config.clone_fd = true;
        let session = fuser::spawn_mount(Served { volumes: volumes.clone() }, path, &config)?;
        Ok(Self { path: path.to_owned(), session: Some(session) })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of a volume.
    pub fn volume_dir(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Detached first, because a process that is just ending may still have a file open. Where that is not allowed the session's own way
        // is tried.
        let _ = nix::mount::umount2(&self.path, MntFlags::MNT_DETACH);
        drop(self.session.take());
    }
}

/// Why there is no fault device on this machine; `None` if there can be one.
pub fn missing() -> Option<String> {
    let opened = std::fs::File::options().read(true).write(true).open("/dev/fuse");
    opened.err().map(|error| format!("/dev/fuse: {error}"))
}

/// In the environment of tests: what cannot be tested on this machine fails, instead of being left out.
pub const NO_SKIP: &str = "STRONGROOM_NO_SKIP";

/// Whether tests may leave out what this machine cannot do.
pub fn may_skip() -> bool {
    std::env::var_os(NO_SKIP).is_none_or(|value| value.is_empty())
}

/// Whether tests that need the device are left out here: said aloud.
///
/// # Panics
/// Where they would be, and [`NO_SKIP`] is set.
pub fn skips() -> bool {
    skips_for(missing(), may_skip())
}

fn skips_for(missing: Option<String>, may: bool) -> bool {
    let Some(why) = missing else { return false };
    assert!(may, "no fault device on this machine, and {NO_SKIP} is set: {why}");
    eprintln!("SKIPPED: no fault device on this machine: {why}");
    true
}

/// A volume's answer that may have to wait.
type Waiting = (Arc<Shared>, u64, Held);
/// An entry of a folder.
type Listed = (INodeNo, FileType, OsString);

struct Served {
    volumes: Arc<Volumes>,
}

/// What a file number of the kernel means.
enum Place {
    /// The folder that the volumes are in.
    Top,
    /// Something of a volume.
    In(Arc<Shared>, u64),
}

fn outer(shared: &Shared, number: u64) -> INodeNo {
    INodeNo(((shared.index() + 1) << NUMBER_BITS) | number)
}

fn attributes(number: INodeNo, is_folder: bool, len_bytes: u64) -> FileAttr {
    FileAttr {
        ino: number,
        size: len_bytes,
        blocks: len_bytes.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if is_folder { FileType::Directory } else { FileType::RegularFile },
        perm: if is_folder { 0o755 } else { 0o644 },
        nlink: 1,
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn attributes_of(shared: &Shared, look: Look) -> FileAttr {
    attributes(outer(shared, look.number), look.is_folder, look.len_bytes)
}

/// Lets `tell` have the answer, when it is time.
fn hand_over<T: Send + 'static>(
    shared: &Arc<Shared>,
    serial: u64,
    answer: Answer<T>,
    tell: impl FnOnce(Result<T, Errno>) + Send + 'static,
) {
    let result = answer.result.map_err(Errno::from_i32);
    let patience = match answer.held {
        Held::No => return tell(result),
        Held::For(patience) => Some(patience),
        Held::UntilWeatherChanges => None,
    };
    let shared = shared.clone();
    // A thread each: as many as the requests that are under way, which the kernel bounds.
    std::thread::spawn(move || {
        let begun = Instant::now();
        while shared.lock().weather_serial() == serial && patience.is_none_or(|most| begun.elapsed() < most) {
            std::thread::sleep(HELD_POLL);
        }
        tell(result);
    });
}

macro_rules! ask {
    ($shared:expr, $method:ident($($argument:expr),*), $tell:expr) => {{
        let mut volume = $shared.lock();
        let answer = volume.$method($($argument),*);
        let serial = volume.weather_serial();
        drop(volume);
        hand_over(&$shared, serial, answer, $tell)
    }};
}

impl Served {
    fn place(&self, number: INodeNo) -> Place {
        let (volume, within) = (number.0 >> NUMBER_BITS, number.0 & ((1 << NUMBER_BITS) - 1));
        let all = self.volumes.all();
        match volume.checked_sub(1).and_then(|index| all.get(usize::try_from(index).ok()?)) {
            Some(shared) => Place::In(shared.clone(), within),
            None => Place::Top,
        }
    }
}

fn tell_empty(reply: ReplyEmpty) -> impl FnOnce(Result<(), Errno>) + Send + 'static {
    move |result| match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn tell_entry(shared: &Arc<Shared>, reply: ReplyEntry) -> impl FnOnce(Result<Look, Errno>) + Send + use<> {
    let shared = shared.clone();
    move |result| match result {
        Ok(look) => reply.entry(&KEPT, &attributes_of(&shared, look), Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

fn tell_attributes(
    shared: &Arc<Shared>,
    reply: ReplyAttr,
) -> impl FnOnce(Result<Look, Errno>) + Send + use<> {
    let shared = shared.clone();
    move |result| match result {
        Ok(look) => reply.attr(&KEPT, &attributes_of(&shared, look)),
        Err(errno) => reply.error(errno),
    }
}

const OPENED: FopenFlags = FopenFlags::FOPEN_DIRECT_IO.union(FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES);

impl Filesystem for Served {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let refused = |_| io::Error::from(io::ErrorKind::Unsupported);
        config
            .add_capabilities(InitFlags::FUSE_ASYNC_DIO)
            .map_err(|_| io::Error::from(io::ErrorKind::Unsupported))?;
        config.set_max_write(WRITE_LEN_BYTES_MAX).map_err(refused)?;
        config.set_max_background(BACKGROUND_MAX).map_err(|_| io::Error::from(io::ErrorKind::Unsupported))?;
        config
            .set_congestion_threshold(BACKGROUND_MAX)
            .map_err(|_| io::Error::from(io::ErrorKind::Unsupported))?;
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.place(parent) {
            Place::Top => match name.to_str().map(|name| self.volumes.get(name)) {
                Some(Ok(shared)) => {
                    let folder = attributes(outer(&shared, tree::ROOT), true, 0);
                    reply.entry(&KEPT, &folder, Generation(0));
                }
                Some(Err(_)) | None => reply.error(Errno::ENOENT),
            },
            Place::In(shared, folder) => ask!(shared, find(folder, name), tell_entry(&shared, reply)),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.place(number) {
            Place::Top => reply.attr(&KEPT, &attributes(INodeNo::ROOT, true, 0)),
            Place::In(shared, within) => {
                let look = shared.lock().look(within);
                tell_attributes(&shared, reply)(look.map_err(Errno::from_i32));
            }
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match (self.place(number), size) {
            (Place::Top, _) => reply.error(Errno::EPERM),
            (Place::In(shared, within), Some(len_bytes)) => {
                ask!(shared, set_len(within, len_bytes), tell_attributes(&shared, reply));
            }
            // Modes, owners and times are taken and forgotten.
            (Place::In(shared, within), None) => {
                let look = shared.lock().look(within);
                tell_attributes(&shared, reply)(look.map_err(Errno::from_i32));
            }
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        match self.place(parent) {
            Place::Top => reply.error(Errno::EPERM),
            Place::In(shared, folder) => ask!(shared, add(folder, name, true), tell_entry(&shared, reply)),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match self.place(parent) {
            Place::Top => reply.error(Errno::EPERM),
            Place::In(shared, folder) => ask!(shared, remove(folder, name, false), tell_empty(reply)),
        }
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match self.place(parent) {
            Place::Top => reply.error(Errno::EPERM),
            Place::In(shared, folder) => ask!(shared, remove(folder, name, true), tell_empty(reply)),
        }
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let replace = match flags {
            flags if flags.is_empty() => true,
            flags if flags == RenameFlags::RENAME_NOREPLACE => false,
            _ => return reply.error(Errno::EINVAL),
        };
        match (self.place(parent), self.place(new_parent)) {
            (Place::In(shared, from), Place::In(other, to)) if shared.index() == other.index() => {
                ask!(shared, rename((from, name), (to, new_name), replace), tell_empty(reply));
            }
            (Place::In(..), Place::In(..)) => reply.error(Errno::EXDEV),
            (_, _) => reply.error(Errno::EPERM),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let Place::In(shared, within) = self.place(number) else { return reply.error(Errno::EISDIR) };
        ask!(shared, open(within), move |result| match result {
            Ok(handle) => reply.opened(FileHandle(handle.0), OPENED),
            Err(errno) => reply.error(errno),
        });
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let Place::In(shared, folder) = self.place(parent) else { return reply.error(Errno::EPERM) };
        let mut volume = shared.lock();
        let added = volume.add(folder, name, false);
        let opened = added.result.and_then(|look| Ok((look, volume.open(look.number).result?)));
        let serial = volume.weather_serial();
        drop(volume);
        let own = shared.clone();
        hand_over(&shared, serial, Answer { result: opened, held: added.held }, move |result| match result {
            Ok((look, handle)) => {
                let file = attributes_of(&own, look);
                reply.created(&KEPT, &file, Generation(0), FileHandle(handle.0), OPENED);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn release(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        if let Place::In(shared, within) = self.place(number) {
            shared.lock().close(within, Handle(handle.0));
        }
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Closing makes nothing durable.
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Place::In(shared, within) = self.place(number) else { return reply.error(Errno::EISDIR) };
        ask!(shared, read(within, Handle(handle.0), offset, u64::from(size)), move |result| match result {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        });
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Place::In(shared, within) = self.place(number) else { return reply.error(Errno::EISDIR) };
        let len = u32::try_from(data.len()).expect("the kernel's requests are smaller");
        ask!(shared, write(within, Handle(handle.0), offset, data), move |result| match result {
            Ok(()) => reply.written(len),
            Err(errno) => reply.error(errno),
        });
    }

    fn fsync(&self, _: &Request, number: INodeNo, handle: FileHandle, data_only: bool, reply: ReplyEmpty) {
        let Place::In(shared, within) = self.place(number) else { return reply.error(Errno::EISDIR) };
        ask!(shared, flush(within, Handle(handle.0), data_only), tell_empty(reply));
    }

    fn fallocate(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Place::In(shared, within) = self.place(number) else { return reply.error(Errno::EISDIR) };
        let handle = Handle(handle.0);
        if mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0 {
            ask!(shared, zero(within, handle, offset, length), tell_empty(reply));
        } else if mode == 0 {
            ask!(shared, reserve(within, handle, offset.saturating_add(length)), tell_empty(reply));
        } else if mode == libc::FALLOC_FL_KEEP_SIZE {
            // Space that is reserved and not counted in the length cannot be seen.
            ask!(shared, reserve(within, handle, 0), tell_empty(reply));
        } else {
            reply.error(Errno::EOPNOTSUPP);
        }
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.place(number) {
            Place::Top => reply.opened(FileHandle(0), FopenFlags::empty()),
            Place::In(shared, within) => ask!(shared, open(within), move |result| match result {
                Ok(handle) => reply.opened(FileHandle(handle.0), FopenFlags::empty()),
                Err(errno) => reply.error(errno),
            }),
        }
    }

    fn releasedir(
        &self,
        request: &Request,
        number: INodeNo,
        handle: FileHandle,
        flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.release(request, number, handle, flags, None, false, reply);
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, reply: ReplyDirectory) {
        let (entries, held): (Vec<Listed>, Option<Waiting>) = match self.place(number) {
            Place::Top => {
                let entry = |shared: &Arc<Shared>| {
                    (outer(shared, tree::ROOT), FileType::Directory, OsString::from(shared.name()))
                };
                (self.volumes.all().iter().map(entry).collect(), None)
            }
            Place::In(shared, within) => {
                let mut volume = shared.lock();
                let answer = volume.entries(within);
                let entries = match answer.result {
                    Ok(entries) => entries,
                    Err(errno) => return reply.error(Errno::from_i32(errno)),
                };
                let listed = entries.into_iter().map(|(name, number)| {
                    let is_folder = volume.look(number).is_ok_and(|look| look.is_folder);
                    let kind = if is_folder { FileType::Directory } else { FileType::RegularFile };
                    (outer(&shared, number), kind, name)
                });
                let listed = listed.collect();
                let serial = volume.weather_serial();
                drop(volume);
                (listed, Some((shared, serial, answer.held)))
            }
        };
        let send = move |mut reply: ReplyDirectory| {
            let own = [
                (number, FileType::Directory, OsString::from(".")),
                (number, FileType::Directory, "..".into()),
            ];
            let all = own.into_iter().chain(entries);
            // The offset of an entry is the place of the next one.
            for (next, (number, kind, name)) in
                (1..).zip(all).skip(usize::try_from(offset).unwrap_or(usize::MAX))
            {
                if reply.add(number, next, kind, name) {
                    break;
                }
            }
            reply.ok();
        };
        match held {
            None => send(reply),
            Some((shared, serial, held)) => {
                hand_over(&shared, serial, Answer { result: Ok(()), held }, move |_| send(reply));
            }
        }
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.place(number) {
            Place::Top => reply.ok(),
            Place::In(shared, _) => ask!(shared, flush_folder(Handle(handle.0)), tell_empty(reply)),
        }
    }

    fn statfs(&self, _: &Request, number: INodeNo, reply: ReplyStatfs) {
        let (len_bytes, used_bytes) = match self.place(number) {
            Place::Top => (VOLUME_LEN_BYTES, 0),
            Place::In(shared, _) => {
                let mut volume = shared.lock();
                (volume.nature().len_bytes_max, volume.used_bytes())
            }
        };
        let free = len_bytes.saturating_sub(used_bytes) / 4096;
        reply.statfs(len_bytes / 4096, free, free, 1 << 20, 1 << 20, 4096, 255, 4096);
    }
}

#[cfg(test)]
mod tests {
    use super::skips_for;

    #[test]
    fn a_device_that_is_there_is_used_and_one_that_is_not_is_said() {
        assert!(!skips_for(None, true) && !skips_for(None, false));
        assert!(skips_for(Some(String::from("none")), true));
    }

    #[test]
    #[should_panic(expected = "STRONGROOM_NO_SKIP is set: none")]
    fn where_nothing_may_be_skipped_a_device_that_is_missing_is_a_failure() {
        skips_for(Some(String::from("none")), false);
    }
}
