//! `strongroom drain`.

use super::target::Target;
use super::{client_runtime, human_bytes};
use crate::control::client::ControlClient;
use crate::control::drains::{DrainView, Subject};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// Empty a node or a drive, or show what is being emptied.
///
/// What it holds is made elsewhere in its zone, nothing new goes there, and nothing survives less meanwhile: where there is nowhere to go the drain waits and says
/// why. It is remembered by the cluster, over restarts, until it is ended with --end; a node or drive that is empty may be taken out, a node for good with `strongroom dismiss`. Any node may be asked.
#[derive(Args)]
pub struct DrainCommand {
    #[command(flatten)]
    target: Target,
    /// What is to be emptied: a node, such as node-3, or a drive by its 32 hexadecimal digits; all drains are shown without
    subject: Option<Subject>,
    /// Use it again, be it empty or not
    #[arg(long, requires = "subject", conflicts_with = "wait")]
    end: bool,
    /// Follow it until nothing is left; breaking off leaves it under way
    #[arg(long, requires = "subject")]
    wait: bool,
}

/// Between two looks: each reads all slab tables.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) fn run(command: &DrainCommand) -> anyhow::Result<()> {
    client_runtime()?.block_on(drain(command))
}

async fn drain(command: &DrainCommand) -> anyhow::Result<()> {
    let (target, client) = (&command.target, command.target.client());
    let Some(subject) = command.subject else {
        return target.print(&client.drains().await?, |views| show_all(views));
    };
    if command.end {
        return target.print(&client.end_drain(subject).await?, |views| show_all(views));
    }
    let mut view = client.begin_drain(subject).await?;
    if command.wait {
        view = follow(&client, target, subject, view).await?;
    }
    target.print(&view, show)
}

async fn follow(
    client: &ControlClient,
    target: &Target,
    subject: Subject,
    mut view: DrainView,
) -> anyhow::Result<DrainView> {
    let bar = bar(target, subject);
    while !view.over {
        bar.set_length(view.bytes_moved + view.bytes_left);
        bar.set_position(view.bytes_moved);
        bar.set_message(view.waiting.first().map(|waiting| waiting.reason.clone()).unwrap_or_default());
        tokio::time::sleep(LOOK_EVERY).await;
        view = client.drain(subject).await?;
    }
    bar.finish_and_clear();
    Ok(view)
}

fn bar(target: &Target, subject: Subject) -> ProgressBar {
    if target.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{prefix} {bar:32} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} {msg}";
    let style = ProgressStyle::with_template(template).expect("a constant template");
    ProgressBar::new(0).with_style(style).with_prefix(subject.to_string())
}

fn show_all(views: &[DrainView]) {
    if views.is_empty() {
        println!("nothing is to be emptied");
    }
    views.iter().for_each(show);
}

fn show(view: &DrainView) {
    let DrainView { subject, began, .. } = view;
    if view.over {
        return println!("{subject}: empty; it gets nothing new until `strongroom drain {subject} --end`");
    }
    let left = human_bytes(view.bytes_left);
    print!("{subject}: {} fragments left, {left}, since {began}", view.fragments_left);
    if let Some(rate) = view.bytes_per_second {
        print!(", {}/s", human_bytes(rate));
    }
    if let Some(seconds) = view.left_seconds {
        print!(", {} left", indicatif::HumanDuration(Duration::from_secs(seconds)));
    }
    if view.seats_left > 0 {
        print!("; it votes in {} groups until a node of its zone takes over", view.seats_left);
    }
    println!();
    for waiting in &view.waiting {
        println!(
            "  {} fragments ({}) wait: {}",
            waiting.fragments,
            human_bytes(waiting.bytes),
            waiting.reason
        );
    }
}
