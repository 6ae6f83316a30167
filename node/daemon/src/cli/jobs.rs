//! `strongroom jobs`.

use super::client_runtime;
use super::follow::{amounts, follow, state, succeeded};
use super::report::show_report;
use super::target::Target;
use crate::jobs::JobView;
use clap::{Args, Subcommand};
use std::num::NonZeroU64;

/// List the jobs of a node, and pause, resume, pace or cancel them.
///
/// Standing jobs are the node's workers: they can be paused and some of them paced, and never end. Runs are what an operator asked for, such as
/// `strongroom repair`: they end by themselves or are cancelled. Without a subcommand all are listed.
#[derive(Args)]
pub struct JobsCommand {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    order: Option<JobsOrder>,
}

#[derive(Subcommand)]
enum JobsOrder {
    /// List all jobs
    List,
    /// Show one job, with its counts and report
    Show(One),
    /// Follow a run to its end; exit code 0 only if it is done
    Follow(One),
    /// Have a job begin nothing more until it is resumed; what is under way goes on
    Pause(One),
    /// Let a paused job go on
    Resume(One),
    /// End a run
    Cancel(One),
    /// Limit how many bytes a second a job moves
    Pace {
        /// The job's id
        id: u64,
        /// Bytes a second, such as 50MiB, or `none` for as many as can be
        #[arg(value_name = "BYTES", value_parser = parse_pace)]
        pace: Pace,
    },
}

#[derive(Args)]
struct One {
    /// The job's id
    id: u64,
}

/// Bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace(Option<NonZeroU64>);

fn parse_pace(text: &str) -> Result<Pace, String> {
    if text == "none" {
        return Ok(Pace(None));
    }
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1_u64 << 30),
        _ => None,
    };
    let bytes = digits.parse::<u64>().ok().zip(unit).and_then(|(count, unit)| count.checked_mul(unit));
    let expected = || format!("{text:?}: expected a number above 0 with or without KiB, MiB or GiB, or none");
    bytes.and_then(NonZeroU64::new).map(|bytes| Pace(Some(bytes))).ok_or_else(expected)
}

pub(super) fn run(command: &JobsCommand) -> anyhow::Result<()> {
    client_runtime()?.block_on(order(command))
}

async fn order(command: &JobsCommand) -> anyhow::Result<()> {
    let (target, client) = (&command.target, command.target.client());
    let job = match &command.order {
        None | Some(JobsOrder::List) => {
            return target.print(&client.jobs().await?, |jobs| jobs.iter().for_each(line));
        }
        Some(JobsOrder::Show(one)) => client.job(one.id).await?,
        Some(JobsOrder::Follow(one)) => {
            let job = follow(&client, one.id, target.json).await?;
            target.print(&job, show)?;
            return succeeded(&job);
        }
        Some(JobsOrder::Pause(one)) => client.order(one.id, "pause").await?,
        Some(JobsOrder::Resume(one)) => client.order(one.id, "resume").await?,
        Some(JobsOrder::Cancel(one)) => client.order(one.id, "cancel").await?,
        Some(JobsOrder::Pace { id, pace }) => client.pace(*id, pace.0).await?,
    };
    target.print(&job, show)
}

fn line(job: &JobView) {
    let sort = if job.standing { "standing" } else { "run" };
    println!("{:>4}  {:8}  {:9}  {}, {}", job.id, sort, job.kind.name(), state(job), amounts(&job.progress));
}

fn show(job: &JobView) {
    let sort = if job.standing { "standing job" } else { "run" };
    println!("{sort} {}: {} of {}", job.id, job.kind, job.subject);
    println!("{}, {}", state(job), amounts(&job.progress));
    if let Some(pace) = job.pace_bytes_per_second {
        println!("at most {}/s", super::human_bytes(pace));
    }
    match &job.ended {
        Some(ended) => println!("began {}, ended {ended}", job.began),
        None => println!("began {}", job.began),
    }
    show_report(job);
}

#[cfg(test)]
mod tests {
    use super::{Pace, parse_pace};
    use std::num::NonZeroU64;

    #[test]
    fn a_pace_is_a_number_above_0_with_a_unit_or_none() {
        let pace = |bytes| Ok(Pace(NonZeroU64::new(bytes)));
        assert_eq!(parse_pace("none"), Ok(Pace(None)));
        assert_eq!(parse_pace("512"), pace(512));
        assert_eq!(parse_pace("50MiB"), pace(50 << 20));
        assert_eq!(parse_pace("1GiB"), pace(1 << 30));
        for bad in ["", "0", "MiB", "50MB", "-1", "99999999999GiB", "1 KiB"] {
            assert!(parse_pace(bad).is_err(), "{bad:?}");
        }
    }
}
