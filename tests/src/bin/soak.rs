//! The soak: see `strongroom_tests::soak`.

use anyhow::Context as _;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use strongroom_tests::soak::faults::Fault;
use strongroom_tests::soak::limits::READ_BACK_PATIENCE;
use strongroom_tests::soak::nodes::Shape;
use strongroom_tests::soak::run::{self, Options, SLAB_SECTION};
use tokio::signal::unix::{SignalKind, signal};

/// Runs a cluster of real processes under load and faults, and says what held. Exit code 1: something was lost, wrong or not whole in
/// time, or a node ended by itself; 2: the harness failed, or could not do what it was asked for.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Args {
    /// How long
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// Whence faults and load follow; drawn and told where it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// Write the report here as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The program under test; by default `strongroom` beside this one
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// An empty folder for the nodes' folders and logs, which are kept; by default a new one among temporary files
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Zones
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=5))]
    zones: u8,
    /// Nodes in each
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=6))]
    nodes_per_zone: u8,
    /// Drives of each
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    drives_per_node: u8,
    /// Size of each drive; what is written to them takes memory
    #[arg(long, default_value_t = 1024)]
    drive_mib: u64,
    /// Clients
    #[arg(long, default_value_t = 8)]
    clients: u64,
    /// How often each death is measured; by default once for each four minutes, five times at most
    #[arg(long)]
    trials: Option<usize>,
    /// All zones on the loopback, without cuts
    #[arg(long)]
    no_namespaces: bool,
    /// Draw these faults only, for up to twice the time until each has come
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Fault>,
    /// Lose and roll back state directories in one zone too
    #[arg(long)]
    state_damage: bool,
    /// Seconds that a pause or a cut lasts at most
    #[arg(long, default_value_t = 60)]
    hold_s_max: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match soak(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn soak(args: Args) -> anyhow::Result<bool> {
    let program = match args.program {
        Some(program) => program,
        None => std::env::current_exe()?.with_file_name("strongroom"),
    };
    let program = program.canonicalize().with_context(|| {
        format!("{}: build it with `cargo build --release -p strongroom`", program.display())
    })?;
    let seed = args.seed.unwrap_or_else(rand::random);
    let dir = args
        .dir
        .unwrap_or_else(|| std::env::temp_dir().join(format!("strongroom-soak-{}", std::process::id())));
    eprintln!("soak: seed {seed}, program {}, logs in {}", program.display(), dir.display());
    let options = Options {
        seed,
        program,
        dir,
        time: Duration::from_secs(args.minutes * 60),
        trials: args.trials.unwrap_or_else(|| usize::try_from(args.minutes.div_ceil(4)).unwrap_or(5).min(5)),
        shape: Shape {
            zones: args.zones,
            nodes_per_zone: args.nodes_per_zone,
            drives_per_node: args.drives_per_node,
            drive_len_bytes: args.drive_mib << 20,
            groups: 4,
            slab_section: SLAB_SECTION.to_owned(),
        },
        namespaces: !args.no_namespaces,
        only: args.only,
        state_damage: args.state_damage,
        clients: args.clients,
        hold_max: Duration::from_secs(args.hold_s_max),
        read_back_patience: READ_BACK_PATIENCE,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            report = run::run(&options) => report,
            // What runs is dropped, and so ends and cleans up.
            _ = terminate.recv() => Err(anyhow::anyhow!("told to end")),
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    })?;
    println!("{report}");
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text + "\n").with_context(|| format!("report {}", path.display()))?;
    }
    Ok(report.holds())
}
