//! The bootable image: a static Rust PID 1 in an initramfs, in a disk image that starts by BIOS and UEFI, without a shell.
//!
//! What exists is `strongroom-image plan`: the steps of the build in their order, what each one needs from the host, and
//! which of that is missing here, looked for in the file system. The builder itself, PID 1 and the boot test in QEMU are not
//! written yet; nothing here makes an image.

mod host;
mod plan;

use clap::{Parser, Subcommand};
use host::Host;
use std::process::ExitCode;

/// Builds the bootable image. So far it plans.
#[derive(Debug, Parser)]
#[command(name = "strongroom-image", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the steps of the build and of its boot test, and what this host lacks for them.
    Plan {
        /// Leave with exit code 1 when something is missing.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let Command::Plan { check } = Arguments::parse().command;
    let host = Host::here();
    print!("{}", plan::describe(&host));
    let is_ready = plan::missing_packages(&host).is_empty();
    if check && !is_ready { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
