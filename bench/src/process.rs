//! What processes cost: CPU time and peak memory, from `/proc` for the server's and from `getrusage` for this one.

use crate::machine::field;
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};
use std::path::PathBuf;

/// Why a process cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// No such process, or not ours to look at.
    #[error("process {pid}: cannot be read in /proc")]
    Unreadable {
        /// Which.
        pid: u32,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// `/proc/PID/stat` does not look as it should.
    #[error("process {pid}: /proc/{pid}/stat has no CPU times")]
    Malformed {
        /// Which.
        pid: u32,
    },
}

/// CPU seconds (user and system, all threads) that the processes have used so far.
///
/// # Errors
/// When one of them is gone.
pub fn cpu_seconds(pids: &[u32]) -> Result<f64, ProcessError> {
    let ticks_per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
    let mut ticks = 0;
    for &pid in pids {
        let stat = read(pid, "stat")?;
        ticks += ticks_in(&stat).ok_or(ProcessError::Malformed { pid })?;
    }
    Ok(ticks as f64 / ticks_per_second)
}

/// Bytes of memory that the processes held at their peaks, added up; the peaks need not have come together.
///
/// # Errors
/// When one of them is gone.
pub fn peak_memory_len_bytes(pids: &[u32]) -> Result<u64, ProcessError> {
    let mut total = 0;
    for &pid in pids {
        let status = read(pid, "status")?;
        let kib =
            field(&status, "VmHWM").and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
        total += kib.unwrap_or(0) * 1024;
    }
    Ok(total)
}

/// CPU seconds of this process so far.
pub fn own_cpu_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage of the process itself has no error case");
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
        .sum()
}

fn read(pid: u32, name: &str) -> Result<String, ProcessError> {
    let path: PathBuf = ["/proc", &pid.to_string(), name].iter().collect();
    std::fs::read_to_string(path).map_err(|source| ProcessError::Unreadable { pid, source })
}

/// Fields 14 and 15 of `/proc/PID/stat`. The second field, the name, may hold spaces and parentheses, so count after its end.
fn ticks_in(stat: &str) -> Option<u64> {
    let mut after_name = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().skip(11);
    Some(after_name.next()?.parse::<u64>().ok()? + after_name.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::{ProcessError, cpu_seconds, own_cpu_seconds, peak_memory_len_bytes, ticks_in};

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 300 45 0 0 20 0 5 0 1 1 1";
        assert_eq!(ticks_in(stat), Some(345));
        assert_eq!(ticks_in("42 (x) S 1"), None);
        assert_eq!(ticks_in(""), None);
    }

    #[test]
    fn both_ways_to_count_agree_on_this_process() {
        let mut sum = 0u64;
        while own_cpu_seconds() < 0.3 {
            sum = (0..100_000).fold(sum, |sum, number| std::hint::black_box(sum ^ number));
        }
        let pid = std::process::id();
        let (before, by_proc, after) = (own_cpu_seconds(), cpu_seconds(&[pid]).unwrap(), own_cpu_seconds());
        // The kernel counts ticks of 10 ms in one and finer in the other.
        assert!(by_proc >= before - 0.1 && by_proc <= after + 0.1, "{before} {by_proc} {after}");
        assert!(peak_memory_len_bytes(&[pid]).unwrap() > 1 << 20);
    }

    #[test]
    fn a_process_that_is_gone_is_named() {
        assert!(matches!(cpu_seconds(&[u32::MAX]), Err(ProcessError::Unreadable { pid: u32::MAX, .. })));
    }
}
