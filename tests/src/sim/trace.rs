//! What happened, in words and as one number.
//!
//! A line is: simulated seconds, the node where there is one, the subsystem, what happened. What nodes log themselves is caught
//! and told too, so that one text has the clients' operations, the faults, and what the code made of them. Nothing in a line comes
//! from outside the run: no host time, no address, no order of a hash; so the text of a seed is the same on every machine.
//!
//! The hash is of all lines and of every poll of a task, so that two runs whose schedules part differ even where the words are the
//! same. Traces written to a file have the count of polls in each line besides, which shows where two runs part.

use super::draws::Fnv;
use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use strongroom_types::{GroupId, NodeId, SlabId};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, Interest};
use tracing::{Level, Metadata, Subscriber};

/// Where the lines go, besides into the hash.
#[derive(Default)]
pub enum Sink {
    /// Nowhere.
    #[default]
    None,
    /// To standard error, as they happen: those that the filter takes.
    Terminal(Filter),
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

/// Which lines are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    only: Vec<String>,
    not: Vec<String>,
}

impl Filter {
    /// Lines that hold any of these words; words that begin with `-` are of lines that are left out.
    pub fn new(words: &[String]) -> Self {
        let (not, only): (Vec<String>, Vec<String>) =
            words.iter().cloned().partition(|word| word.starts_with('-'));
        Self { only, not: not.into_iter().map(|word| word[1..].to_owned()).collect() }
    }

    /// Whether a line is shown.
    pub fn takes(&self, line: &str) -> bool {
        (self.only.is_empty() || self.only.iter().any(|word| line.contains(word)))
            && !self.not.iter().any(|word| line.contains(word))
    }
}

/// The trace of a run.
pub struct Trace {
    origin: Instant,
    state: Mutex<State>,
    freed: Notify,
    taken: Notify,
    killed: Notify,
    /// Slabs that nodes say they killed, and nobody has looked at since.
    killed_slabs: Mutex<Vec<SlabId>>,
}

struct State {
    hash: Fnv,
    polls: u64,
    lines: u64,
    text: String,
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

thread_local! {
    /// Whose task is being polled; 0 is nobody's.
    static PLACE: Cell<u64> = const { Cell::new(0) };
}

/// From now on what happens on this thread happens at this node.
pub(super) fn set_place(node: Option<NodeId>) {
    PLACE.set(node.map_or(0, NodeId::get));
}

impl Trace {
    /// A trace that begins now.
    pub fn new(sink: Sink) -> Self {
        let state = State { hash: Fnv::new(), polls: 0, lines: 0, text: String::new(), sink };
        let (freed, taken, killed, killed_slabs) =
            (Notify::new(), Notify::new(), Notify::new(), Mutex::default());
        Self { origin: Instant::now(), state: Mutex::new(state), freed, taken, killed, killed_slabs }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, its first word being the subsystem: `trace.line(format_args!("net   zone-1 is cut off"))`. It is of the node
    /// whose task says it.
    pub fn line(&self, what: fmt::Arguments<'_>) {
        let mut state = self.lock();
        let mut text = std::mem::take(&mut state.text);
        text.clear();
        fmt::Write::write_fmt(&mut text, what).expect("a string takes everything");
        let (subsystem, words) = text.split_once(' ').unwrap_or((&text, ""));
        let place = PLACE.get();
        let elapsed = self.origin.elapsed();
        let polls = state.polls;
        let head = Head { seconds: elapsed.as_secs(), micros: elapsed.subsec_micros(), place, subsystem };
        let words = words.trim_start();
        state.hash.u64(polls);
        state.hash.u64(elapsed.as_micros() as u64);
        state.hash.u64(place);
        state.hash.bytes(subsystem.as_bytes());
        state.hash.bytes(b" ");
        state.hash.bytes(words.as_bytes());
        state.lines += 1;
        match &mut state.sink {
            Sink::None => {}
            Sink::Terminal(filter) => {
                let line = format!("{head} {words}");
                if filter.takes(&line) {
                    eprintln!("{line}");
                }
            }
            Sink::File(file) => {
                writeln!(file, "{polls:>9} {head} {words}").expect("the trace's file takes its lines");
            }
        }
        state.text = text;
    }

    /// Adds that a task was polled.
    pub(super) fn poll(&self, task: u64) {
        let mut state = self.lock();
        state.polls += 1;
        state.hash.u64(task);
    }

    /// Waits until a node says that it freed something.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Waits until a node says that the slab table took fragments that were made again or moved.
    pub async fn taken(&self) {
        self.taken.notified().await;
    }

    /// Waits until a node says that it killed slabs; gives them.
    pub async fn killed(&self) -> Vec<SlabId> {
        self.killed.notified().await;
        std::mem::take(&mut *self.killed_slabs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes out what is buffered and sums up.
    pub fn summary(&self) -> Summary {
        let mut state = self.lock();
        if let Sink::File(file) = &mut state.sink {
            file.flush().expect("the trace's file takes its lines");
        }
        Summary { hash: state.hash.value(), polls: state.polls, lines: state.lines }
    }

    /// From now on what is logged on this thread is told here.
    pub(super) fn catch_logs(self: &Arc<Self>) -> DefaultGuard {
        tracing::subscriber::set_default(Logs { trace: Arc::clone(self) })
    }
}

/// The aligned beginning of a line.
struct Head<'text> {
    seconds: u64,
    micros: u32,
    place: u64,
    subsystem: &'text str,
}

impl fmt::Display for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, micros, place, subsystem } = self;
        match place {
            0 => write!(f, "{seconds:>5}.{micros:06}        {subsystem:<9}"),
            node => write!(f, "{seconds:>5}.{micros:06} node-{node:<2} {subsystem:<9}"),
        }
    }
}

/// Takes what the node's own code logs.
struct Logs {
    trace: Arc<Trace>,
}

fn is_told(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && metadata.target().starts_with("strongroom") && *metadata.level() <= Level::DEBUG
}

impl Subscriber for Logs {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_told(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_told(metadata)
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::DEBUG)
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let target = event.metadata().target();
        let subsystem = target.rsplit("::").next().unwrap_or(target);
        let loud = if *event.metadata().level() == Level::ERROR { "! " } else { "" };
        self.trace.line(format_args!("{subsystem} {loud}{}{}", words.message, words.fields));
        if words.message.contains("freed") {
            self.trace.freed.notify_one();
        }
        if words.message.contains("are in the table") {
            self.trace.taken.notify_one();
        }
        if words.message.contains("slab is killed")
            && let Some(slab) = words.slab()
        {
            self.trace.killed_slabs.lock().unwrap_or_else(PoisonError::into_inner).push(slab);
            self.trace.killed.notify_one();
        }
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// A log's message and its fields.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Words {
    /// The slab that it is about.
    fn slab(&self) -> Option<SlabId> {
        let named = self.fields.split_whitespace().find_map(|field| field.strip_prefix("slab=slab-"))?;
        let (group, count) = named.split_once('.')?;
        SlabId::new(GroupId::new(group.parse().ok()?), count.parse().ok()?)
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => fmt::Write::write_fmt(&mut self.message, format_args!("{value:?}")),
            name => fmt::Write::write_fmt(&mut self.fields, format_args!(" {name}={value:?}")),
        };
        written.expect("a string takes everything");
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, Sink, Trace, set_place};
    use std::sync::Arc;
    use strongroom_types::NodeId;

    fn filter(words: &[&str]) -> Filter {
        Filter::new(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn filters_take_any_of_their_words_and_none_of_the_others() {
        let line = "    1.000000 node-3  seal      slab sealed slab=slab-0.5";
        for (words, takes) in [
            (&[][..], true),
            (&["seal", "net"][..], true),
            (&["net"][..], false),
            (&["-seal"][..], false),
            (&["seal", "-slab-0.5"][..], false),
        ] {
            assert_eq!(filter(words).takes(line), takes, "{words:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lines_have_columns_and_what_is_logged_is_told_at_its_node() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace");
        let trace = Arc::new(Trace::new(Sink::file(&path).unwrap()));
        let told = trace.catch_logs();
        trace.line(format_args!("net   zone-1 is cut off"));
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        set_place(Some(NodeId::new(3)));
        tracing::info!(target: "strongroom::caretaker::seal", slab = %"slab-0.5", rows = 2, "slab sealed");
        tracing::info!(target: "openraft::core", "not ours");
        tracing::trace!(target: "strongroom::caretaker", "too much");
        set_place(None);
        drop(told);
        tracing::error!(target: "strongroom::caretaker", "after the end");
        let summary = trace.summary();
        assert_eq!(summary.lines, 2);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "        0     0.000000        net       zone-1 is cut off\n\
             \x20       0     1.500000 node-3  seal      slab sealed slab=slab-0.5 rows=2\n"
        );
    }

    #[test]
    fn the_hash_is_of_lines_and_polls() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let hash = |lines: &[&str], polls: &[u64]| {
            runtime.block_on(async {
                let trace = Trace::new(Sink::None);
                for poll in polls {
                    trace.poll(*poll);
                }
                for line in lines {
                    trace.line(format_args!("{line}"));
                }
                trace.summary().hash
            })
        };
        let one = hash(&["net a"], &[1, 2]);
        assert_eq!(one, hash(&["net a"], &[1, 2]));
        for other in [
            hash(&["net b"], &[1, 2]),
            hash(&["net a"], &[2, 1]),
            hash(&["net a", "net a"], &[1, 2]),
            hash(&["neta"], &[1, 2]),
        ] {
            assert_ne!(one, other);
        }
    }
}
