//! Mounts the fault device by itself, for scripts: see `strongroom_tests::faultfs`.

use anyhow::Context;
use clap::Parser;
use std::path::PathBuf;
use strongroom_tests::faultfs::content::Tear;
use strongroom_tests::faultfs::control::{self, Order};
use strongroom_tests::faultfs::limits::VOLUME_LEN_BYTES;
use strongroom_tests::faultfs::mount::Mounted;
use strongroom_tests::faultfs::volumes::Volumes;

/// A file system with faults on command, in memory.
#[derive(Debug, Parser)]
#[command(name = "faultfs")]
struct Args {
    /// An empty folder.
    #[arg(long, value_name = "DIR")]
    mount: PathBuf,
    /// A volume: a folder below it, a device of its own. May be given more than once; more can be made by command.
    #[arg(long, value_name = "NAME")]
    volume: Vec<String>,
    /// A Unix socket for commands, each a line of JSON.
    #[arg(long, value_name = "SOCKET")]
    control: PathBuf,
    /// Whence faults follow.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Power cuts tear at 4096 bytes instead of 512.
    #[arg(long)]
    tear_blocks: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let volumes = Volumes::new(args.seed);
    let tear = if args.tear_blocks { Tear::Block4096 } else { Tear::Sector512 };
    for name in &args.volume {
        control::order(&volumes, name, &Order::Add { tear, len_bytes_max: VOLUME_LEN_BYTES })?;
    }
    let mounted = Mounted::new(&volumes, &args.mount, "faultfs")
        .with_context(|| format!("mounting on {}", args.mount.display()))?;
    control::serve(&volumes, &args.control)
        .with_context(|| format!("control socket {}", args.control.display()))?;
    eprintln!("faultfs: mounted on {}, commands over {}", args.mount.display(), args.control.display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        std::io::Result::Ok(())
    })?;
    drop(mounted);
    println!("{}", serde_json::to_string(&volumes.counts_each())?);
    // A socket that is already gone is gone.
    let _ = std::fs::remove_file(&args.control);
    Ok(())
}
