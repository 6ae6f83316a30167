//! One drive of this process: made, filled and opened as a node does it, without the node around it.

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use strongroom::drive::{Drive, FormatSpec, format};
use strongroom_core::mutants::MutantSwitch;
use strongroom_env::real::{OsRng, PlainTcp, RealClock, RealSpawn, TcpConfig, TcpNet, TcpParts};
use strongroom_env::{Clock, Env, Rng};
use strongroom_format::wire::message::{FinishFragment, FragmentAddress, WriteFragment};
use strongroom_io::Device;
use strongroom_io::backend::Backend;
use strongroom_io::open::{Direct, OpenMode, Partitioned, open_drive};
use strongroom_types::units::MIB;
use strongroom_types::{
    ClusterId, DriveId, Epoch, FragmentIndex, Generation, GroupId, NodeId, Profile, SlabId,
};

/// The cluster of all drives made here.
pub const CLUSTER: ClusterId = ClusterId::new(0x0bec);
/// What every drive here is made of.
pub const EXTENT_LEN_BYTES: u32 = strongroom_types::limits::EXTENT_LEN_BYTES_DEFAULT;
/// Fragments written at once: so that they share flushes.
const WRITES_UNDER_WAY: usize = 64;
/// Slices that make an image.
const DATA_COUNT: u8 = 5;
/// Threads for what cannot wait on a ring.
const BLOCKING_MAX: usize = 4;
/// Longest piece of a fragment that a drive takes at once.
const PIECE_LEN_BYTES: u32 = MIB as u32;

/// What a node has around a drive.
pub async fn env() -> anyhow::Result<Env> {
    let rng: Arc<dyn Rng> = Arc::new(OsRng);
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let spawn = RealSpawn::new(tokio::runtime::Handle::current(), rng.clone(), BLOCKING_MAX);
    let parts = TcpParts {
        clock: clock.clone(),
        rng: rng.clone(),
        spawn: spawn.clone(),
        transport: Arc::new(PlainTcp),
    };
    let config = TcpConfig {
        cluster: CLUSTER,
        node: NodeId::new(1),
        peers: BTreeMap::new(),
        limits: Default::default(),
    };
    // Nobody is ever called: a drive needs the clock, chance and tasks.
    let net = TcpNet::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), config, parts).await?;
    Ok(Env { clock, rng, spawn, net })
}

/// Opens a device, and makes the file of it first where a length is given.
pub async fn device(path: &Path, create_len_bytes: Option<u64>) -> anyhow::Result<Arc<dyn Device>> {
    let mode = OpenMode { create_len_bytes, direct: Direct::IfPossible, partitioned: Partitioned::Refuse };
    let drive = open_drive(path, mode)?;
    ensure!(
        drive.direct(),
        "{}: this file system has no O_DIRECT: it would measure the page cache",
        path.display()
    );
    Ok(Backend::choose().attach(drive).await?)
}

/// What a drive is filled with.
#[derive(Clone, Copy, Debug)]
pub struct Filling {
    /// Fragments.
    pub fragments: u32,
    /// Bytes of the slice of each: whole blocks.
    pub slice_len_bytes: u32,
    /// Bytes of an extent.
    pub extent_len_bytes: u32,
}

impl Filling {
    /// Bytes of a device that holds it, and what a drive keeps free.
    pub fn device_len_bytes(&self) -> u64 {
        // Its header, and the table of its checksums: four bytes for 4 KiB, in whole blocks.
        let fragment_len_bytes = self.slice_len_bytes + self.slice_len_bytes.div_ceil(1024) + 3 * 4096;
        let extents =
            u64::from(fragment_len_bytes.div_ceil(self.extent_len_bytes)) * u64::from(self.fragments);
        (extents * 17 / 16 + 16) * u64::from(self.extent_len_bytes) + 4 * MIB
    }
}

/// Makes a drive in a new file, and fills it with cold fragments of drawn bytes.
pub async fn make(path: &Path, filling: Filling) -> anyhow::Result<()> {
    let device = device(path, Some(filling.device_len_bytes())).await?;
    let env = env().await?;
    let drive = DriveId::new(env.rng.u128());
    let spec =
        FormatSpec { cluster: CLUSTER, drive, extent_len_bytes: filling.extent_len_bytes, force: false };
    format(device.as_ref(), &spec).await?;
    let drive = Drive::open(device, CLUSTER, &env, MutantSwitch::default()).await?;
    let words = PIECE_LEN_BYTES.min(filling.slice_len_bytes) / (u64::BITS / 8);
    let piece: Vec<u8> = (0..words).flat_map(|_| env.rng.u64().to_le_bytes()).collect();
    let (drive, piece) = (&drive, &Bytes::from(piece));
    stream::iter(0..filling.fragments)
        .map(|number| async move { write(drive, number, filling.slice_len_bytes, piece).await })
        .buffer_unordered(WRITES_UNDER_WAY)
        .try_collect::<()>()
        .await
}

async fn write(drive: &Drive, number: u32, slice_len_bytes: u32, piece: &Bytes) -> anyhow::Result<()> {
    let profile = Profile::new(DATA_COUNT, 4).context("a profile of the design")?;
    let slab = SlabId::new(GroupId::new(0), u64::from(number) + 1).context("counts fit into ids")?;
    let address = FragmentAddress {
        drive: drive.id(),
        slab,
        fragment: FragmentIndex::new(0),
        generation: Generation::FIRST,
    };
    let mut offset_bytes = 0;
    while offset_bytes < slice_len_bytes {
        let len = PIECE_LEN_BYTES.min(slice_len_bytes - offset_bytes);
        let write = WriteFragment { address, profile, slice_len_bytes, offset_bytes };
        let refusal = |refusal| anyhow::anyhow!("the drive refused a piece: {refusal:?}");
        drive.write_fragment(write, piece.slice(..len as usize)).await.map_err(refusal)?;
        offset_bytes += len;
    }
    let finish = FinishFragment {
        address,
        image_len_bytes: slice_len_bytes * u32::from(DATA_COUNT),
        epoch: Epoch::FIRST,
        rows: 1,
        root_crc32c: number,
    };
    let refusal = |refusal| anyhow::anyhow!("the drive refused an end: {refusal:?}");
    drive.finish_fragment(finish).await.map(drop).map_err(refusal)
}
