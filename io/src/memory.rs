//! A drive in memory, for tests and the simulator: deterministic, without threads, without a clock.
//!
//! [`MemoryMedia`] is what a drive is made of: media, and a volatile write cache before it. It outlives the
//! process that uses it, here a [`MemoryDevice`] opened on it. Two things end a process:
//! [`MemoryMedia::disconnect`] (killed; the cache stays) and [`MemoryMedia::power_cut`] (of the writes that
//! no flush covered, a seeded choice survives, whole or torn). Either way the devices opened before answer
//! [`DeviceError::Closed`] from then on.
//!
//! A [`FaultPlan`] decides for each operation what goes wrong with it, and may hold it back as long as it
//! wants, which is how the simulator gives drives their latency and lets operations overtake each other.
//!
//! It does not model: an order among overlapping writes in flight other than that of their completion; media
//! that wears out.

mod fault;
mod media;

pub use fault::{Fault, FaultPlan, Intent, Kind, NoFaults};

use crate::device::{Class, Closing, Completion, Device, DeviceError, Operation, Pending, Shape};
use crate::limits::{BLOCK_LEN_BYTES, OPERATIONS_PER_DEVICE_MAX};
use media::{Image, Media};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a drive is made of. It keeps its bytes from one [`MemoryDevice`] to the next.
pub struct MemoryMedia {
    state: Mutex<State>,
}

struct State {
    media: Media,
    plan: Arc<dyn FaultPlan>,
    /// Counts the processes; operations of an earlier one are void.
    session: u64,
    open: bool,
    /// Counts the operations of all sessions.
    operation_next: u64,
    /// Submitted and not yet done, with what it takes to do them.
    in_flight: BTreeMap<u64, InFlight>,
    /// Done when their device was closed, before whoever submitted them looked.
    finished: BTreeMap<u64, Completion>,
}

struct InFlight {
    operation: Operation,
    intent: Intent,
    /// For a flush: the first write that had not completed when it was submitted.
    write_next_at_submit: u64,
}

/// The bytes of a [`MemoryMedia`] as they were at one moment.
pub struct MemoryImage {
    image: Image,
}

/// Why a device was not opened.
#[derive(Debug, thiserror::Error)]
#[error("the drive in memory is open already")]
pub struct MemoryOpenError;

impl MemoryMedia {
    /// Media full of zeros. Costs memory for what is written only.
    ///
    /// # Panics
    /// `len_bytes` is not a multiple of 4096, or zero.
    pub fn new(len_bytes: u64) -> Arc<Self> {
        let state = State {
            media: Media::new(len_bytes),
            plan: Arc::new(NoFaults),
            session: 0,
            open: false,
            operation_next: 0,
            in_flight: BTreeMap::new(),
            finished: BTreeMap::new(),
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// From now on `plan` decides what goes wrong. Operations submitted before were decided then.
    pub fn set_plan(&self, plan: Arc<dyn FaultPlan>) {
        self.lock().plan = plan;
    }

    /// The process is killed. Of its operations in flight each is done or not, by `seed`; the write cache
    /// stays.
    pub fn disconnect(&self, seed: u64) {
        let mut state = self.lock();
        state.take_in_flight();
        state.media.settle_in_flight(seed);
        state.end_session();
    }

    /// From now on a power cut tears writes at multiples of this, 512 bytes at first.
    ///
    /// # Panics
    /// A block of 4096 bytes is not made of whole sectors.
    pub fn set_sector_len_bytes(&self, sector_len_bytes: usize) {
        self.lock().media.set_sector_len_bytes(sector_len_bytes);
    }

    /// What every read would give now, kept for [`Self::restore`]. Costs little: blocks are shared until they change.
    pub fn image(&self) -> MemoryImage {
        MemoryImage { image: self.lock().media.image() }
    }

    /// The drive is as it was when the image was taken, as if every write and flush since had not been; in front of whoever has it
    /// open.
    ///
    /// # Panics
    /// The image is of a drive of another size.
    pub fn restore(&self, image: &MemoryImage) {
        self.lock().media.restore(&image.image);
    }

    /// Power fails. Of the writes that no flush covered, those in flight included, each is kept, lost or torn
    /// at its sectors, by `seed`; overlapping ones in the order of their completion.
    pub fn power_cut(&self, seed: u64) {
        let mut state = self.lock();
        state.take_in_flight();
        state.media.power_cut(seed);
        state.end_session();
    }

    /// The drive is replaced by an empty one of the same size, in front of whoever has it open.
    pub fn erase(&self) {
        self.lock().media.erase();
    }

    /// Flips the bits of `mask` in one byte, on media and in the cache: bit rot.
    ///
    /// # Panics
    /// The byte is outside the device.
    pub fn rot(&self, offset_bytes: u64, mask: u8) {
        self.lock().media.rot(offset_bytes, mask);
    }

    /// What a read of this range would give now.
    ///
    /// # Panics
    /// The range is not made of whole blocks within the device.
    pub fn peek(&self, offset_bytes: u64, len_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0; len_bytes];
        self.lock().media.read(offset_bytes, &mut bytes);
        bytes
    }

    /// Bytes of writes that no flush has covered yet.
    pub fn unflushed_len_bytes(&self) -> usize {
        self.lock().media.unflushed_len_bytes()
    }

    /// Bytes of the device.
    pub fn len_bytes(&self) -> u64 {
        self.lock().media.len_bytes()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in here is one of a test, which has failed then.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The writes in flight may be on media in whole or in part, though nobody heard of it.
    fn take_in_flight(&mut self) {
        for InFlight { operation, intent, .. } in std::mem::take(&mut self.in_flight).into_values() {
            if let Operation::Write { offset_bytes, buffer } = operation {
                match intent.fault {
                    Fault::LostWrite | Fault::Error => {}
                    Fault::Misdirected { offset_bytes } => self.media.write_in_flight(offset_bytes, &buffer),
                    Fault::Short { done_blocks } => {
                        self.media.write_in_flight(offset_bytes, part(&buffer, done_blocks));
                    }
                    Fault::None | Fault::ErrorAfter | Fault::BitRot { .. } | Fault::LyingFlush => {
                        self.media.write_in_flight(offset_bytes, &buffer);
                    }
                }
            }
        }
    }

    fn end_session(&mut self) {
        self.session += 1;
        self.open = false;
    }

    /// Does an operation, with its fault, if it is not done already. `None` if it is void.
    fn perform(&mut self, session: u64, number: u64) -> Option<Completion> {
        if let Some(completion) = self.finished.remove(&number) {
            return Some(completion);
        }
        if session != self.session {
            return None;
        }
        let InFlight { operation, intent, write_next_at_submit } = self.in_flight.remove(&number)?;
        let media = &mut self.media;
        let fault = intent.fault;
        let (offset_bytes, len_bytes) = (intent.offset_bytes, intent.len_bytes);
        match (&operation, fault) {
            (Operation::Read { .. }, Fault::BitRot { offset_bytes, mask }) => media.rot(offset_bytes, mask),
            // Nobody can rely on what a failed flush left undone to be done by the next.
            (Operation::Flush, Fault::Error) => media.forsake(write_next_at_submit),
            _ => {}
        }
        let buffer = match operation {
            Operation::Read { offset_bytes, mut buffer } => {
                match fault {
                    Fault::Error => {}
                    Fault::Misdirected { offset_bytes } => media.read(offset_bytes, &mut buffer),
                    Fault::Short { done_blocks } => {
                        let done = done_blocks as usize * BLOCK_LEN_BYTES;
                        media.read(offset_bytes, &mut buffer[..done]);
                    }
                    Fault::None
                    | Fault::ErrorAfter
                    | Fault::LostWrite
                    | Fault::BitRot { .. }
                    | Fault::LyingFlush => media.read(offset_bytes, &mut buffer),
                }
                Some(buffer)
            }
            Operation::Write { offset_bytes, buffer } => {
                match fault {
                    Fault::Error | Fault::LostWrite => {}
                    Fault::Misdirected { offset_bytes } => media.write(offset_bytes, &buffer),
                    Fault::Short { done_blocks } => media.write(offset_bytes, part(&buffer, done_blocks)),
                    Fault::None | Fault::ErrorAfter | Fault::LyingFlush => media.write(offset_bytes, &buffer),
                    Fault::BitRot { offset_bytes: rotten, mask } => {
                        media.write(offset_bytes, &buffer);
                        media.rot(rotten, mask);
                    }
                }
                Some(buffer)
            }
            Operation::Flush => {
                if !matches!(fault, Fault::Error | Fault::LyingFlush) {
                    media.flush(write_next_at_submit);
                }
                None
            }
            Operation::Discard { offset_bytes, len_bytes } => {
                if fault != Fault::Error {
                    media.discard(offset_bytes, len_bytes, number);
                }
                None
            }
        };
        let result = match fault {
            Fault::Error | Fault::ErrorAfter => {
                let source = std::io::Error::from_raw_os_error(libc::EIO);
                Err(DeviceError::Io { offset_bytes, len_bytes, source })
            }
            Fault::Short { done_blocks } => {
                let done_bytes = u64::from(done_blocks) * BLOCK_LEN_BYTES as u64;
                Err(DeviceError::Short { offset_bytes, len_bytes, done_bytes })
            }
            Fault::None
            | Fault::LostWrite
            | Fault::Misdirected { .. }
            | Fault::BitRot { .. }
            | Fault::LyingFlush => Ok(()),
        };
        Some(Completion { result, buffer })
    }
}

/// The blocks of a buffer that were transferred before the operation ended early.
fn part(buffer: &[u8], done_blocks: u32) -> &[u8] {
    &buffer[..done_blocks as usize * BLOCK_LEN_BYTES]
}

/// One process's hold on a [`MemoryMedia`].
pub struct MemoryDevice {
    media: Arc<MemoryMedia>,
    shape: Shape,
    session: u64,
}

impl MemoryDevice {
    /// Opens the media for one process.
    ///
    /// # Errors
    /// Another device has it open; it must be dropped or closed first, or its process be ended by
    /// [`MemoryMedia::disconnect`] or [`MemoryMedia::power_cut`].
    pub fn open(media: &Arc<MemoryMedia>) -> Result<Self, MemoryOpenError> {
        let mut state = media.lock();
        if std::mem::replace(&mut state.open, true) {
            return Err(MemoryOpenError);
        }
        let shape = Shape { len_bytes: state.media.len_bytes() };
        let session = state.session;
        drop(state);
        Ok(Self { media: media.clone(), shape, session })
    }

    fn end(&self) {
        let mut state = self.media.lock();
        if state.session == self.session {
            // What is in flight is done, as a drive would.
            let numbers: Vec<u64> = state.in_flight.keys().copied().collect();
            for number in numbers {
                if let Some(completion) = state.perform(self.session, number) {
                    state.finished.insert(number, completion);
                }
            }
            state.end_session();
        }
    }
}

impl Device for MemoryDevice {
    fn shape(&self) -> Shape {
        self.shape
    }

    /// Without a plan that holds it back, the operation is done at once. Else it is done when the plan's
    /// future, polled by the returned one, has completed, or when the returned one is dropped.
    fn submit(&self, operation: Operation, class: Class) -> Pending {
        if let Err(error) = self.shape.check(&operation) {
            return Pending::ready(Completion::refused(operation, error));
        }
        let mut state = self.media.lock();
        if state.session != self.session {
            return Pending::ready(Completion::refused(operation, DeviceError::Closed));
        }
        if state.in_flight.len() == OPERATIONS_PER_DEVICE_MAX {
            let error = DeviceError::Busy { in_flight_max: OPERATIONS_PER_DEVICE_MAX };
            return Pending::ready(Completion::refused(operation, error));
        }
        let number = state.operation_next;
        state.operation_next += 1;
        let plan = state.plan.clone();
        drop(state);

        // The plan may look at the media, so it is asked without the lock.
        let mut intent = Intent::of(number, &operation, class);
        intent.fault = plan.fault(&intent).fitting(self.shape, &intent);
        let before = plan.before(&intent);

        let mut state = self.media.lock();
        if state.session != self.session {
            // The plan ended the process.
            return Pending::ready(Completion::refused(operation, DeviceError::Closed));
        }
        let write_next_at_submit = state.media.write_next();
        state.in_flight.insert(number, InFlight { operation, intent, write_next_at_submit });
        let mut submitted =
            Submitted { media: self.media.clone(), session: self.session, number, done: false };
        let Some(before) = before else {
            let completion = state.perform(self.session, number).unwrap_or_else(Completion::closed);
            submitted.done = true;
            return Pending::ready(completion);
        };
        drop(state);
        Pending::new(async move {
            before.await;
            submitted.perform()
        })
    }

    fn close(&self) -> Closing {
        self.end();
        Box::pin(std::future::ready(()))
    }
}

impl Drop for MemoryDevice {
    fn drop(&mut self) {
        self.end();
    }
}

/// An operation in flight; done at the latest when this is dropped.
struct Submitted {
    media: Arc<MemoryMedia>,
    session: u64,
    number: u64,
    done: bool,
}

impl Submitted {
    fn perform(mut self) -> Completion {
        self.done = true;
        self.media.lock().perform(self.session, self.number).unwrap_or_else(Completion::closed)
    }
}

impl Drop for Submitted {
    fn drop(&mut self) {
        if !self.done {
            self.media.lock().perform(self.session, self.number);
        }
    }
}

#[cfg(test)]
mod tests;
