//! Follows a job to its end: a bar with rate and time left on a terminal, lines otherwise.

use super::human_bytes;
use super::report::show_report;
use super::target::Target;
use crate::control::client::ControlClient;
use crate::jobs::{JobState, JobView, Progress, Unit};
use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looks between two lines where nothing but the numbers changes.
const LOOKS_PER_LINE: u32 = 20;

/// Follows job `id` to its end; gives how it is then. Breaking off leaves it under way.
pub(super) async fn follow(client: &ControlClient, id: u64, quiet: bool) -> anyhow::Result<JobView> {
    let mut shown = Shown::new(quiet);
    loop {
        let job = client.job(id).await?;
        shown.show(&job);
        if job.has_ended() {
            shown.end();
            return Ok(job);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Shows a run that was begun; where that is asked for, follows it to its end. An error unless it is done then.
pub(super) async fn begun(
    client: &ControlClient,
    target: &Target,
    job: &JobView,
    wait: bool,
) -> anyhow::Result<()> {
    if !wait {
        let show = |job: &JobView| {
            println!("job {0} is under way: `strongroom jobs follow {0}` follows it", job.id);
        };
        return target.print(job, show);
    }
    let job = follow(client, job.id, target.json).await?;
    target.print(&job, show_report)?;
    succeeded(&job)
}

/// An error unless the job did what was asked.
pub(super) fn succeeded(job: &JobView) -> anyhow::Result<()> {
    match job.state {
        JobState::Done => Ok(()),
        JobState::Failed => {
            bail!("job {} failed: {}", job.id, job.reason.as_deref().unwrap_or("it does not say why"))
        }
        JobState::Cancelled => bail!("job {} was cancelled before it was done", job.id),
        JobState::Running | JobState::Paused | JobState::Waiting => bail!("job {} has not ended", job.id),
    }
}

/// What a follower sees.
enum Shown {
    Nothing,
    Bar(ProgressBar),
    /// The last line, and looks since.
    Lines(String, u32),
}

impl Shown {
    fn new(quiet: bool) -> Self {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Self::Nothing,
            (false, true) => Self::Bar(ProgressBar::new_spinner()),
            (false, false) => Self::Lines(String::new(), 0),
        }
    }

    fn show(&mut self, job: &JobView) {
        match self {
            Self::Nothing => {}
            Self::Bar(bar) => {
                bar.set_style(style(job));
                bar.set_length(job.progress.total.unwrap_or(0));
                bar.set_position(job.progress.done);
                bar.set_message(format!("{}, {}", state(job), amounts(&job.progress)));
                bar.tick();
            }
            Self::Lines(last, looks) => {
                *looks += 1;
                let state = state(job);
                if *last != state || *looks >= LOOKS_PER_LINE || job.has_ended() {
                    eprintln!("job {} {}: {state}, {}", job.id, job.kind, amounts(&job.progress));
                    (*last, *looks) = (state, 0);
                }
            }
        }
    }

    fn end(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn style(job: &JobView) -> ProgressStyle {
    let template = match job.progress.total {
        Some(_) => "{prefix}{bar:40} {percent:>3}% {wide_msg}",
        None => "{prefix}{spinner} {wide_msg}",
    };
    ProgressStyle::with_template(template).expect("a constant template")
}

/// How a job is, with the reason.
pub(super) fn state(job: &JobView) -> String {
    match (&job.reason, job.state) {
        (Some(reason), JobState::Waiting) => format!("waiting: {reason}"),
        (Some(reason), state) => format!("{}: {reason}", state.name()),
        (None, state) => state.name().to_owned(),
    }
}

/// How far a job is, with rate and time left.
pub(super) fn amounts(progress: &Progress) -> String {
    let amount = |count: u64| match progress.unit {
        Unit::Bytes => human_bytes(count),
        Unit::Slabs | Unit::Fragments => count.to_string(),
    };
    let unit = match progress.unit {
        Unit::Bytes => String::new(),
        unit @ (Unit::Slabs | Unit::Fragments) => format!(" {unit}"),
    };
    let mut words = match progress.total {
        Some(total) => format!("{} of {}{unit}", amount(progress.done), amount(total)),
        None => format!("{}{unit}", amount(progress.done)),
    };
    if let Some(rate) = progress.rate_per_second.filter(|rate| *rate > 0.0) {
        words += &match progress.unit {
            Unit::Bytes => format!(", {}/s", human_bytes(rate as u64)),
            Unit::Slabs | Unit::Fragments => format!(", {rate:.1}/s"),
        };
    }
    if let Some(seconds) = progress.left_seconds {
        words += &format!(", {} left", human_seconds(seconds));
    }
    words
}

/// Seconds in words: `75` is `1 min 15 s`.
fn human_seconds(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::{amounts, human_seconds};
    use crate::jobs::{Progress, Unit};

    #[test]
    fn amounts_are_told_with_rate_and_time_left_where_these_are_known() {
        let bytes = Progress {
            unit: Unit::Bytes,
            done: 1 << 20,
            total: Some(4 << 20),
            rate_per_second: Some(512.0 * 1024.0),
            left_seconds: Some(6),
        };
        assert_eq!(amounts(&bytes), "1.00 MiB of 4.00 MiB, 512.00 KiB/s, 6 s left");
        let slabs = Progress {
            unit: Unit::Slabs,
            done: 3,
            total: None,
            rate_per_second: Some(0.0),
            left_seconds: None,
        };
        assert_eq!(amounts(&slabs), "3 slabs");
        assert_eq!(human_seconds(75), "1 min 15 s");
        assert_eq!(human_seconds(7260), "2 h 1 min");
    }
}
