//! The machine line: what every figure must be read with.

use serde::Serialize;
use std::fmt;

/// Where a measurement ran.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's own name.
    pub cpu: String,
    /// Threads the process may run on.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Bytes of memory.
    pub memory_len_bytes: u64,
    /// Load average over one minute when the measurement began: above `cores`, wall-clock figures say little.
    pub load_at_start: f64,
    /// Whether this program was built with optimisation.
    pub optimised: bool,
}

impl Machine {
    /// Reads it from `/proc`; what cannot be read is said to be unknown.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let memory_kib: u64 = field(&read("/proc/meminfo"), "MemTotal")
            .and_then(|value| value.split_whitespace().next().and_then(|number| number.parse().ok()))
            .unwrap_or(0);
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown processor").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_len_bytes: memory_kib * 1024,
            load_at_start: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
            optimised: !cfg!(debug_assertions),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory_gib = self.memory_len_bytes as f64 / (1u64 << 30) as f64;
        write!(
            f,
            "{}, {} cores, Linux {}, {memory_gib:.0} GiB, load {} at start",
            self.cpu, self.cores, self.kernel, self.load_at_start
        )?;
        if !self.optimised {
            write!(f, "; NOT an optimised build: these figures mean nothing")?;
        }
        Ok(())
    }
}

/// The value of `name` in lines of `name : value`.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::{Machine, field};

    #[test]
    fn this_machine_is_named() {
        let machine = Machine::here();
        assert!(machine.cores >= 1 && !machine.kernel.is_empty() && machine.memory_len_bytes > 1 << 20);
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "MemTotalX: 1\nMemTotal:   25 kB\n";
        assert_eq!(field(text, "MemTotal"), Some("25 kB"));
        assert_eq!(field(text, "Mem"), None);
    }
}
