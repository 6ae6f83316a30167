//! `strongroom dismiss`.

use super::client_runtime;
use super::target::Target;
use crate::control::drains::Subject;
use clap::Args;

/// Dismiss a node for good: nobody takes part under its id again, and its process ends.
///
/// One that lives must be empty and vote nowhere: `strongroom drain NODE --wait` leaves it so. One that is dead, which is silent to all nodes for ten seconds, may be
/// dismissed rather than waited for: what it held is made again elsewhere, and its seats go to others. Ask any node but the one that is to go.
#[derive(Args)]
pub struct DismissCommand {
    #[command(flatten)]
    target: Target,
    /// Give up what only this node has, which is dead and never returns: objects that need it cannot be read any more
    #[arg(long)]
    lose_data: bool,
    /// The node, such as node-3
    node: Subject,
}

pub(super) fn run(command: &DismissCommand) -> anyhow::Result<()> {
    let target = &command.target;
    let view = client_runtime()?.block_on(target.client().dismiss(command.node, command.lose_data))?;
    target.print(&view, |view| println!("{} is dismissed; its id is never used again", view.dismissed))
}
