//! `strongroom bucket`.

use super::client_runtime;
use crate::control::client::ControlClient;
use clap::{Subcommand, ValueEnum};
use std::path::PathBuf;
use strongroom_types::BucketName;

/// Buckets
#[derive(Subcommand)]
pub enum BucketCommand {
    /// Make a bucket. Over S3: CreateBucket with the header `x-strongroom-class: mail` or `config`
    Create {
        /// 3 to 63 of a-z, 0-9, '-' and '.'
        #[arg(value_parser = parse_name)]
        name: BucketName,
        /// What it is for; fixed from then on
        #[arg(long, value_enum, default_value_t = Class::Mail)]
        class: Class,
        /// A node's control socket
        #[arg(long, value_name = "SOCKET", default_value = "control.sock")]
        control: PathBuf,
    },
}

/// What a bucket is for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Class {
    /// Immutable objects, erasure-coded
    Mail,
    /// Small values that change, with versions
    Config,
}

fn parse_name(name: &str) -> Result<BucketName, String> {
    BucketName::new(name).map_err(|error| error.to_string())
}

pub(super) fn run(command: &BucketCommand) -> anyhow::Result<()> {
    let BucketCommand::Create { name, class, control } = command;
    let class = match class {
        Class::Mail => "mail",
        Class::Config => "config",
    };
    let client = ControlClient::new(control.clone());
    client_runtime()?.block_on(client.post(&format!("/v1/buckets/{name}?class={class}")))?;
    println!("bucket {name} ({class})");
    Ok(())
}
