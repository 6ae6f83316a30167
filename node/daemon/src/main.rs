//! The `strongroom` program.

use clap::Parser;
use strongroom::cli::Cli;

fn main() -> std::process::ExitCode {
    strongroom::cli::run(Cli::parse())
}
