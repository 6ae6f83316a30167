//! What a run that was killed leaves behind, and how the next one takes it away: processes, a mount, namespaces.
//!
//! A run writes down what it makes before it makes it. A record whose process is gone is what is cleaned up after.

use super::network::{self, Names};
use nix::mount::MntFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where records are.
fn records() -> PathBuf {
    std::env::temp_dir().join("strongroom-soak")
}

/// What a run makes. Dropping it, after all that was made is gone, removes the record.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    process: u32,
    /// When that process was started, in ticks: numbers of processes come again.
    started: u64,
    dir: PathBuf,
    mount: PathBuf,
    zones: u8,
    #[serde(skip)]
    path: PathBuf,
}

impl Record {
    /// Writes down that this process works in `dir`, mounts there, and makes namespaces of zones.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn write(dir: &Path, mount: &Path, zones: u8) -> io::Result<Self> {
        let process = std::process::id();
        // One process may have several runs, as tests do.
        let unique = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = records().join(format!("{process}-{unique}.json"));
        let started = started(process).unwrap_or_default();
        let record = Self {
            process,
            started,
            dir: dir.to_owned(),
            mount: mount.to_owned(),
            zones,
            path: path.clone(),
        };
        fs::create_dir_all(records())?;
        fs::write(&path, serde_json::to_string(&record)?)?;
        Ok(record)
    }

    fn is_of_living(&self) -> bool {
        started(self.process) == Some(self.started)
    }

    fn clean_up(&self) {
        for process in processes_in(&self.dir) {
            // Stopped ones too: SIGKILL needs no waking.
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
        let _ = nix::mount::umount2(&self.mount, MntFlags::MNT_DETACH);
        network::remove(&Names { owner: self.process }, self.zones);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Cleans up after runs that were killed; says after how many.
///
/// # Errors
/// Records cannot be read.
pub fn clean_up() -> io::Result<usize> {
    let entries = match fs::read_dir(records()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let mut count = 0;
    for entry in entries {
        let path = entry?.path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let Ok(mut record) = serde_json::from_str::<Record>(&text) else { continue };
        if record.is_of_living() {
            // Its own process removes it.
            std::mem::forget(record);
            continue;
        }
        record.path = path;
        record.clean_up();
        count += 1;
    }
    Ok(count)
}

/// When a process was started, in ticks since the system was; `None` if it is not there.
fn started(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the start is the twentieth field behind it.
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Processes that were started with a configuration in this folder.
fn processes_in(dir: &Path) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter(|process| {
            let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
            words.any(|word| word.ends_with("node.toml") && Path::new(word.as_ref()).starts_with(dir))
        })
        .collect()
}
