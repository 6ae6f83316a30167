//! Measures Strongroom and its peers in the same way: `s3` any S3 server under a mail store's load, `codec` the erasure codec, `heal` scrub and repair.
//!
//! Every figure is printed with the machine it was measured on, as a table for people or as JSON for machines. What each one
//! means, and what it does not, is in README.md beside this crate.

mod limits;

mod control;
mod machine;
mod process;

mod codec;
mod heal;
mod s3;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Measures Strongroom and its peers in the same way.
#[derive(Debug, Parser)]
#[command(name = "strongroom-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// PUT, GET and DELETE a mail store's objects on any S3 server.
    S3(Box<s3::Arguments>),
    /// Encode, verify, reconstruct and sum up, beside ISA-L and two crates.
    Codec(codec::Arguments),
    /// Scrub and repair, beside what the machine allows.
    Heal(heal::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::S3(arguments) => s3::run(&arguments),
        Command::Codec(arguments) => codec::run(&arguments),
        Command::Heal(arguments) => heal::run(&arguments),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("strongroom-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}
