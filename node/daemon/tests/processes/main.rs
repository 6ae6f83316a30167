//! Real processes: the built `strongroom` program, six nodes on this machine, real sockets and files, SIGKILL.
//!
//! What a simulator cannot show: that the program as built takes its files and sockets back after a kill, refuses what it must with
//! words and an exit code, and keeps what it acknowledged. It does not show power loss: a killed process leaves the page cache
//! and the drive's own cache whole; that is the simulator's and the drive engine's part.
//!
//! Nothing here waits by sleeping for an effect: conditions are looked at until they hold, for a bounded time. Numbers that are printed
//! (gaps, memory) are for people; no test asserts on time.

#![allow(clippy::unwrap_used, reason = "all of this is test")]

mod support;

mod socket;

mod storm;

mod kill;

mod pause;

mod again;

mod refusals;

mod door;

mod rot;

mod state;

mod control;

mod jobs;

mod scrub;

mod corruption;

mod drain;

mod compact;

mod metrics;

mod join;
