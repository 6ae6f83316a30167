//! A seed that fails, made small: each try is a run in a process of its own.

use crate::process::{DIED, DIFFER, Done, run_child};
use crate::{Args, mutant, options, read_script, system};
use anyhow::Context;
use std::path::Path;
use std::time::{Duration, Instant};
use strongroom_tests::sim::faults::text::Script;
use strongroom_tests::sim::run;
use strongroom_tests::sim::shrink::shrink as make_small;

/// Makes the run small and prints what is left, so that it can be run again.
pub fn shrink(args: &Args, failed: &Done, directory: &Path) -> anyhow::Result<()> {
    let system = system(&args.system)?;
    let mutant = mutant(args, &*system)?;
    let Some(rule) = failed.rule(mutant) else { return Ok(()) };
    if rule == DIFFER {
        // A run that is not the same twice cannot be told from one that passes by chance.
        return Ok(());
    }
    let script = match read_script(args)? {
        Some(script) => script,
        None => {
            let of_seed = Args { seed: Some(failed.seed), seeds: None, trace: false, ..args.clone() };
            match run::script(&*system, &options(&of_seed, &*system)?) {
                Some(script) => script,
                None => {
                    println!("  the story is told step by step: there is no schedule to make smaller");
                    return Ok(());
                }
            }
        }
    };
    let quiet = Args { trace: false, ..args.clone() };
    let path = directory.join("candidate");
    let mut tries = 0_u32;
    let begin = Instant::now();
    let until = begin + Duration::from_secs(args.shrink_s);
    let fails = |script: &Script| {
        tries += 1;
        std::fs::write(&path, script.to_string()).expect("the directory of this run takes a file");
        let done = run_child(&quiet, script.seed, None, Some(&path));
        // A try that cannot be run proves nothing.
        done.is_ok_and(|done| done.failures.iter().any(|found| found.rule == rule))
    };
    let before = script.schedule.events.len();
    let small = make_small(script, fails, || Instant::now() >= until);
    let outcome = run_to_file(&quiet, &small, directory)?;
    println!(
        "  made smaller by {tries} runs in {:.0} s: {before} events became {}; the rule is still {}:",
        begin.elapsed().as_secs_f64(),
        small.schedule.events.len(),
        if rule == DIED { "that it lives" } else { rule }
    );
    for found in outcome.failures.iter().filter(|found| found.rule == rule).take(3) {
        println!("    {found}");
    }
    let mutant = args.mutant.as_ref().map(|mutant| format!(" --mutant {mutant}")).unwrap_or_default();
    println!("  again: sim --system {}{mutant} --once --trace --schedule FILE, with this file:", args.system);
    for line in small.to_string().lines() {
        println!("    {line}");
    }
    Ok(())
}

fn run_to_file(args: &Args, script: &Script, directory: &Path) -> anyhow::Result<Done> {
    let path = directory.join("small");
    std::fs::write(&path, script.to_string()).context("schedule")?;
    run_child(args, script.seed, None, Some(&path))
}
