//! A disk of which everything that was done to it is remembered in its order, so that each thing that a power cut may leave can be made.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use strongroom_io::device::Closing;
use strongroom_io::{Class, Completion, Device, DeviceError, Operation, Pending, Shape};

pub(super) const BLOCK: usize = 4096;
pub(super) const SECTOR: usize = 512;

struct Block {
    bytes: Box<[u8; BLOCK]>,
    hash: u64,
}

/// Bytes of a disk; a copy costs little.
#[derive(Clone)]
pub(super) struct Disk {
    len_bytes: u64,
    blocks: BTreeMap<u64, Arc<Block>>,
    hash: u64,
}

fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ value >> 31
}

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        usize::try_from(mix(self.0) % bound as u64).unwrap()
    }
}

impl Disk {
    pub(super) fn new(len_bytes: u64) -> Self {
        Self { len_bytes, blocks: BTreeMap::new(), hash: 0 }
    }

    /// Equal disks have equal ones.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    fn read(&self, offset_bytes: u64, into: &mut [u8]) {
        for (block, piece) in (offset_bytes / BLOCK as u64..).zip(into.chunks_exact_mut(BLOCK)) {
            match self.blocks.get(&block) {
                Some(found) => piece.copy_from_slice(&found.bytes[..]),
                None => piece.fill(0),
            }
        }
    }

    fn put(&mut self, block: u64, bytes: Box<[u8; BLOCK]>) {
        let zero = bytes.iter().all(|byte| *byte == 0);
        let words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        let hash = words.fold(mix(block + 1), |hash, word| {
            (hash.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        });
        let hash = mix(hash);
        let before = if zero {
            self.blocks.remove(&block)
        } else {
            self.hash ^= hash;
            self.blocks.insert(block, Arc::new(Block { bytes, hash }))
        };
        self.hash ^= before.map_or(0, |before| before.hash);
    }

    pub(super) fn write(&mut self, offset_bytes: u64, bytes: &[u8]) {
        for (block, piece) in (offset_bytes / BLOCK as u64..).zip(bytes.chunks_exact(BLOCK)) {
            self.put(block, Box::new(piece.try_into().unwrap()));
        }
    }

    /// Writes those sectors of `bytes` that `kept` says.
    pub(super) fn write_sectors(&mut self, offset_bytes: u64, bytes: &[u8], kept: impl Fn(usize) -> bool) {
        let per_block = BLOCK / SECTOR;
        for (index, piece) in bytes.chunks_exact(BLOCK).enumerate() {
            let sectors =
                (0..per_block).filter(|sector| kept(index * per_block + sector)).collect::<Vec<_>>();
            if sectors.is_empty() {
                continue;
            }
            let block = offset_bytes / BLOCK as u64 + index as u64;
            let mut whole = [0; BLOCK];
            self.read(block * BLOCK as u64, &mut whole);
            for sector in sectors {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                whole[range.clone()].copy_from_slice(&piece[range]);
            }
            self.put(block, Box::new(whole));
        }
    }

    /// Empties about half of the range: nobody may rely on either.
    pub(super) fn discard(&mut self, offset_bytes: u64, len_bytes: u64) {
        let first = offset_bytes / BLOCK as u64;
        let range = first..first + len_bytes / BLOCK as u64;
        let present: Vec<u64> = self.blocks.range(range).map(|(block, _)| *block).collect();
        for block in present.into_iter().filter(|block| mix(*block) & 1 == 0) {
            self.put(block, Box::new([0; BLOCK]));
        }
    }
}

/// What was done to a disk.
#[derive(Clone)]
pub(super) enum Event {
    Write { offset_bytes: u64, bytes: Arc<[u8]> },
    Flush,
    Discard { offset_bytes: u64, len_bytes: u64 },
}

/// When the power of some disks fails: before the n-th change to any of them.
pub(super) struct Trigger {
    count: AtomicU64,
    at: u64,
}

impl Trigger {
    pub(super) fn at(at: u64) -> Arc<Self> {
        Arc::new(Self { count: AtomicU64::new(0), at })
    }

    pub(super) fn never() -> Arc<Self> {
        Self::at(u64::MAX)
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn fired(&self) -> bool {
        self.count() > self.at
    }
}

struct State {
    /// As whoever reads it sees it, its cache included.
    disk: Disk,
    log: Vec<Event>,
    trigger: Arc<Trigger>,
    /// The trigger is for this disk.
    hit: bool,
}

/// A disk in use; its operations are done at once, in the order they are submitted.
#[derive(Clone)]
pub(super) struct Recorded(Arc<Mutex<State>>);

impl Recorded {
    pub(super) fn new(disk: Disk) -> Self {
        let trigger = Trigger::never();
        Self(Arc::new(Mutex::new(State { disk, log: Vec::new(), trigger, hit: false })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// From now on changes count for `trigger`, which fells this disk too if it is `hit`. A disk that fell is in use again.
    pub(super) fn arm(&self, trigger: &Arc<Trigger>, hit: bool) {
        let mut state = self.lock();
        state.trigger = trigger.clone();
        state.hit = hit;
    }

    /// How many changes there were.
    pub(super) fn position(&self) -> usize {
        self.lock().log.len()
    }

    pub(super) fn log(&self) -> Vec<Event> {
        self.lock().log.clone()
    }

    /// As a reader sees it now.
    pub(super) fn disk(&self) -> Disk {
        self.lock().disk.clone()
    }

    /// A device on it, for one process.
    pub(super) fn device(&self) -> Arc<dyn Device> {
        Arc::new(self.clone())
    }
}

impl Device for Recorded {
    fn shape(&self) -> Shape {
        Shape { len_bytes: self.lock().disk.len_bytes }
    }

    fn submit(&self, mut operation: Operation, _: Class) -> Pending {
        assert!(self.shape().check(&operation).is_ok());
        let mut state = self.lock();
        if !matches!(operation, Operation::Read { .. }) {
            state.trigger.count.fetch_add(1, Ordering::Relaxed);
        }
        if state.hit && state.trigger.fired() {
            return Pending::ready(Completion {
                result: Err(DeviceError::Closed),
                buffer: operation.into_buffer(),
            });
        }
        match &mut operation {
            Operation::Read { offset_bytes, buffer } => state.disk.read(*offset_bytes, buffer),
            Operation::Write { offset_bytes, buffer } => {
                state.disk.write(*offset_bytes, buffer);
                state.log.push(Event::Write { offset_bytes: *offset_bytes, bytes: buffer[..].into() });
            }
            Operation::Flush => state.log.push(Event::Flush),
            Operation::Discard { offset_bytes, len_bytes } => {
                state.disk.discard(*offset_bytes, *len_bytes);
                state.log.push(Event::Discard { offset_bytes: *offset_bytes, len_bytes: *len_bytes });
            }
        }
        Pending::ready(Completion { result: Ok(()), buffer: operation.into_buffer() })
    }

    fn close(&self) -> Closing {
        Box::pin(std::future::ready(()))
    }
}
