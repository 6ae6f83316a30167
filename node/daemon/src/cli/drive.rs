//! `strongroom drive`.

use super::human_bytes;
use crate::drive::{FormatSpec, OpenError, format, inspect};
use crate::process::run_local;
use anyhow::Context;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use strongroom_env::Rng;
use strongroom_env::real::OsRng;
use strongroom_format::superblock::{RESERVE_LEN_BYTES, SuperblockError};
use strongroom_io::backend::Backend;
use strongroom_io::open::{Direct, OpenMode, Partitioned, open_drive_with_progress};
use strongroom_io::probe::probe;
use strongroom_io::{AlignedBuffer, Class, Device, Operation};
use strongroom_types::limits::EXTENT_LEN_BYTES_DEFAULT;
use strongroom_types::{ClusterId, DriveId};

/// Drives: raw block devices, or files that stand for them.
#[derive(Subcommand)]
pub enum DriveCommand {
    /// Say in words what kernel and device offer, and what Strongroom will do; changes nothing
    Probe {
        /// A block device, a file, or a folder that a file would be made in
        path: PathBuf,
    },
    /// Say what is on a drive; changes nothing
    Inspect {
        /// A block device or file
        path: PathBuf,
    },
    /// Make a drive of a blank device or file; whatever else is on it is refused unless forced
    Format(Format),
}

/// How to format.
#[derive(Args)]
pub struct Format {
    /// A block device or file
    path: PathBuf,
    /// The cluster: 32 hexadecimal digits, as in node.toml
    #[arg(long, value_parser = parse_cluster)]
    cluster: ClusterId,
    /// Make a file of this many bytes where there is none
    #[arg(long, value_name = "BYTES")]
    create_len: Option<u64>,
    /// Bytes of an extent: a power of two from 262144 to 67108864
    #[arg(long, value_name = "BYTES", default_value_t = EXTENT_LEN_BYTES_DEFAULT)]
    extent_len: u32,
    /// Destroy what is on it
    #[arg(long)]
    force: bool,
    /// Say nothing but errors
    #[arg(long)]
    quiet: bool,
}

fn parse_cluster(text: &str) -> Result<ClusterId, String> {
    let expected = || format!("{text:?}: expected 32 hexadecimal digits");
    if text.len() != 32 {
        return Err(expected());
    }
    u128::from_str_radix(text, 16).map(ClusterId::new).map_err(|_| expected())
}

pub(super) fn run(command: DriveCommand) -> anyhow::Result<()> {
    match command {
        DriveCommand::Probe { path } => {
            println!("{}", probe(&path));
            Ok(())
        }
        DriveCommand::Inspect { path } => run_local(move || inspect_path(path))?,
        DriveCommand::Format(format) => run_local(move || format_path(format))?,
    }
}

async fn inspect_path(path: PathBuf) -> anyhow::Result<()> {
    let drive = strongroom_io::open::open_drive(&path, mode(None))?;
    let device = Backend::choose().attach(drive).await?;
    let found = inspect(device.as_ref()).await;
    device.close().await;
    let superblock = found.with_context(|| path.display().to_string())?;
    let layout = superblock.layout()?;
    println!("{}", path.display());
    println!("  drive        {:032x}", superblock.drive.get());
    println!("  cluster      {:032x}", superblock.cluster.get());
    println!("  incarnation  {}", superblock.incarnation);
    println!("  length       {}", human_bytes(superblock.device_len_bytes));
    println!(
        "  extents      {} of {}",
        layout.extent_count(),
        human_bytes(u64::from(superblock.extent_len_bytes))
    );
    Ok(())
}

fn mode(create_len_bytes: Option<u64>) -> OpenMode {
    OpenMode { create_len_bytes, direct: Direct::IfPossible, partitioned: Partitioned::Refuse }
}

async fn format_path(command: Format) -> anyhow::Result<()> {
    let drive = create(&command.path, &command)?;
    let device = Backend::choose().attach(drive).await?;
    let spec = FormatSpec {
        cluster: command.cluster,
        drive: DriveId::new(OsRng.u128()),
        extent_len_bytes: command.extent_len,
        force: command.force,
    };
    let formatted = match command.force || reserves_are_blank(device.as_ref()).await {
        true => format(device.as_ref(), &spec).await,
        // Where our own superblocks are, what they say is the better answer.
        false => match inspect(device.as_ref()).await {
            Err(OpenError::Superblock(SuperblockError::Blank)) => Err(OpenError::Foreign),
            _ => format(device.as_ref(), &spec).await,
        },
    };
    device.close().await;
    let superblock = formatted.with_context(|| command.path.display().to_string())?;
    if !command.quiet {
        let extents = superblock.layout()?.extent_count();
        println!("{}: drive {:032x}, {extents} extents", command.path.display(), superblock.drive.get());
    }
    Ok(())
}

/// Whether both ends of the device, where superblocks are kept, hold nothing but zeros. Others keep theirs there too, and not in the
/// same blocks: md at 4 KiB or near the end, btrfs at 64 KiB. A device too small for two reserves is for `format` to refuse.
async fn reserves_are_blank(device: &dyn Device) -> bool {
    let Some(tail) = device.shape().len_bytes.checked_sub(RESERVE_LEN_BYTES) else { return true };
    for offset_bytes in [0, tail] {
        let buffer =
            AlignedBuffer::zeroed(usize::try_from(RESERVE_LEN_BYTES).expect("a reserve fits in memory"));
        let completion = device.submit(Operation::Read { offset_bytes, buffer }, Class::ForegroundRead).await;
        // What cannot be read is not known to be blank.
        let is_blank = completion.result.is_ok()
            && completion.buffer.is_some_and(|buffer| buffer.iter().all(|byte| *byte == 0));
        if !is_blank {
            return false;
        }
    }
    true
}

fn create(path: &Path, command: &Format) -> anyhow::Result<strongroom_io::open::Drive> {
    let bar = if command.quiet || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(0).with_style(
            ProgressStyle::with_template("writing {bar:40} {binary_bytes}/{binary_total_bytes} {eta}")
                .expect("a constant template"),
        )
    };
    let mut progress = |done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let drive = open_drive_with_progress(path, mode(command.create_len), &mut progress)?;
    bar.finish_and_clear();
    Ok(drive)
}
