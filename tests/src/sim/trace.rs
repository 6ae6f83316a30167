//! What happened, in words and as one number.
//!
//! Lines carry simulated time and the count of polls so far, so that two runs whose schedules part differ from the next
//! line on, even where the words are the same.

use super::draws::Fnv;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Where the lines go, besides into the hash.
#[derive(Default)]
pub enum Sink {
    /// Nowhere.
    #[default]
    None,
    /// To standard error, as they happen.
    Terminal,
    /// Into a file.
    File(BufWriter<File>),
}

impl Sink {
    /// A new file.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn file(path: &Path) -> io::Result<Self> {
        Ok(Self::File(BufWriter::with_capacity(1 << 20, File::create(path)?)))
    }
}

/// The trace of a run.
pub struct Trace {
    origin: Instant,
    state: Mutex<State>,
}

struct State {
    hash: Fnv,
    polls: u64,
    lines: u64,
    sink: Sink,
}

/// What is left of a trace when the run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Of all lines and all polls.
    pub hash: u64,
    /// Tasks polled.
    pub polls: u64,
    /// Lines written.
    pub lines: u64,
}

impl Trace {
    /// A trace that begins now.
    pub fn new(sink: Sink) -> Self {
        let state = State { hash: Fnv::new(), polls: 0, lines: 0, sink };
        Self { origin: Instant::now(), state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line: `trace.line(format_args!("…"))`.
    pub fn line(&self, what: fmt::Arguments<'_>) {
        let mut state = self.lock();
        let text = format!("{:>12.6} {:>8} {what}\n", self.origin.elapsed().as_secs_f64(), state.polls);
        state.hash.bytes(text.as_bytes());
        state.lines += 1;
        match &mut state.sink {
            Sink::None => {}
            Sink::Terminal => eprint!("{text}"),
            Sink::File(file) => file.write_all(text.as_bytes()).expect("the trace's file takes its lines"),
        }
    }

    /// Adds that a task was polled.
    pub(super) fn poll(&self, task: u64) {
        let mut state = self.lock();
        state.polls += 1;
        state.hash.u64(task);
    }

    /// Writes out what is buffered and sums up.
    pub fn summary(&self) -> Summary {
        let mut state = self.lock();
        if let Sink::File(file) = &mut state.sink {
            file.flush().expect("the trace's file takes its lines");
        }
        Summary { hash: state.hash.value(), polls: state.polls, lines: state.lines }
    }
}
