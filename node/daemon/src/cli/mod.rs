//! The command line: one program for operators, nodes and those who try it out.

mod pipe;
mod target;
mod follow;
mod report;
mod bucket;
mod status;
mod cluster;
mod compact;
mod demo;
mod dismiss;
mod drain;
mod dev;
mod drive;
mod events;
mod jobs;
mod node;
mod repair;
mod scrub;

pub use pipe::EXIT_UNREAD;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Strongroom: a storage node for mail platforms.
///
/// Objects are stored through S3, durable in more than one zone before a PUT is answered, and erasure-coded in the background.
/// Begin with `strongroom demo`, or with `strongroom dev` and any S3 client.
#[derive(Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring up a cluster of 3 zones x 2 nodes on this machine and keep it running
    Dev(dev::Dev),
    /// Store real or generated mail in such a cluster, kill a zone, and compare every byte
    Demo(demo::DemoCommand),
    /// Run one node
    Node(node::NodeCommand),
    /// Look at, try out or format a drive
    #[command(subcommand)]
    Drive(drive::DriveCommand),
    /// Show what a node is, has and sees
    Status(status::StatusCommand),
    /// Show the whole cluster, and what its slabs survive
    Cluster(cluster::ClusterCommand),
    /// List, pause, resume, pace, cancel and follow the jobs of a node
    Jobs(jobs::JobsCommand),
    /// Tell what happened at a node
    Events(events::EventsCommand),
    /// Have everything made again that is lost
    Repair(repair::RepairCommand),
    /// Show how far drives are verified, or verify them now
    Scrub(scrub::ScrubCommand),
    /// Have the space of deleted objects come back now
    Compact(compact::CompactCommand),
    /// Empty a node or a drive, or show what is being emptied
    Drain(drain::DrainCommand),
    /// Dismiss a node for good, once it is empty or dead
    Dismiss(dismiss::DismissCommand),
    /// Make a bucket
    #[command(subcommand)]
    Bucket(bucket::BucketCommand),
}

/// Runs the command; errors go to standard error with what to do about them.
pub fn run(cli: Cli) -> ExitCode {
    // Those that end by themselves. The others have processes or peers to take leave of.
    if !matches!(cli.command, Command::Dev(_) | Command::Demo(_) | Command::Node(_)) {
        pipe::end_with_the_reader();
    }
    let result = match cli.command {
        Command::Dev(command) => dev::run(command),
        Command::Demo(command) => demo::run(command),
        Command::Node(command) => node::run(&command),
        Command::Drive(command) => drive::run(command),
        Command::Status(command) => status::run(&command),
        Command::Cluster(command) => cluster::run(&command),
        Command::Jobs(command) => jobs::run(&command),
        Command::Events(command) => events::run(&command),
        Command::Repair(command) => repair::run(&command),
        Command::Scrub(command) => scrub::run(&command),
        Command::Compact(command) => compact::run(&command),
        Command::Drain(command) => drain::run(&command),
        Command::Dismiss(command) => dismiss::run(&command),
        Command::Bucket(command) => bucket::run(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("strongroom: {}", in_words(&error));
            ExitCode::from(node::exit_code(&error))
        }
    }
}

/// The error and its causes, without those that it says already: many of ours do, so that a log line is whole.
fn in_words(error: &anyhow::Error) -> String {
    let mut words = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

/// A runtime for commands that are clients.
fn client_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Bytes in words: `1536` is `1.5 KiB`.
fn human_bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
