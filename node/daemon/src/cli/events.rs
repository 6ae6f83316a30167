//! `strongroom events`.

use super::client_runtime;
use super::target::Target;
use crate::control::client::Streamed;
use clap::Args;
use std::io::Write;

/// Tell what happened at a node: alarms, drives and nodes that come and go, slabs sealed and made whole, jobs.
///
/// The newest events are kept. With --json each event is one line of JSON.
#[derive(Args)]
pub struct EventsCommand {
    #[command(flatten)]
    target: Target,
    /// Go on with what happens from now on, until Ctrl-C or the node stops
    #[arg(long)]
    follow: bool,
}

pub(super) fn run(command: &EventsCommand) -> anyhow::Result<()> {
    let json = command.target.json;
    let mut written = Ok(());
    let tell = |streamed: Streamed| {
        if written.is_ok() {
            written = tell(&streamed, json);
        }
    };
    client_runtime()?.block_on(command.target.client().events(command.follow, tell))?;
    Ok(written?)
}

fn tell(streamed: &Streamed, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let text = |name: &str| streamed.data[name].as_str().unwrap_or_default();
    match json {
        true => writeln!(out, "{}", streamed.data)?,
        false => writeln!(out, "{:24}  {:16}  {}", text("at"), streamed.kind, text("words"))?,
    }
    out.flush()
}
