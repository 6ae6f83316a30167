//! `strongroom node`.

use crate::config::Config;
use crate::process::{self, ProcessError, StopRule};
use clap::Args;
use std::path::PathBuf;
use tracing_subscriber::EnvFilter;

/// What is logged unless STRONGROOM_LOG says otherwise. openraft's core calls each read that went round a silent voter an error, a hundred a second
/// while a node is down, and its replication says four times for each heartbeat that a voter does not answer; when a group stops here, status and alarms
/// say so, and who does not answer is said once where it is dialled.
const FILTER: &str = "info,openraft=warn,openraft::core::raft_core=off,openraft::replication=off,\
    openraft::engine::handler::replication_handler=off,fjall=warn,lsm_tree=warn";

/// Run one node until SIGTERM or SIGINT. Logs go to standard error; the variable STRONGROOM_LOG sets their level (`info`, `debug`,
/// `strongroom=debug,openraft=warn`).
///
/// Ends with exit code 74 where the device of its state directory failed or is full, with 78 where its cluster refuses it for good, and with 1 on any
/// other error.
#[derive(Args)]
pub struct NodeCommand {
    /// The node's configuration
    #[arg(long, value_name = "FILE", default_value = "node.toml")]
    config: PathBuf,
    /// Check the configuration and stop
    #[arg(long)]
    check: bool,
    /// Stop also when standard input ends, as a child of `dev`
    #[arg(long)]
    stop_at_stdin_end: bool,
}

/// What a command that ended with this error exits with.
pub(super) fn exit_code(error: &anyhow::Error) -> u8 {
    error.downcast_ref().map_or(1, ProcessError::exit_code)
}

pub(super) fn run(command: &NodeCommand) -> anyhow::Result<()> {
    let config = Config::load(&command.config)?;
    if command.check {
        println!("{}: fine; {} in {}", command.config.display(), config.node, config.own().zone);
        return Ok(());
    }
    let filter = EnvFilter::try_from_env("STRONGROOM_LOG").unwrap_or_else(|_| EnvFilter::new(FILTER));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let stop = if command.stop_at_stdin_end { StopRule::SignalsOrStdinEnd } else { StopRule::Signals };
    Ok(process::run(config, stop)?)
}
