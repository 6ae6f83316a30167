//! The soak: a cluster of real processes under load and faults, with an oracle beside it.
//!
//! ```text
//! oracle     what each key may hold, given what was acknowledged and what nobody knows
//! gaps       the longest time without an acknowledgement
//! network    a namespace for each zone, and cuts between them
//! leftovers  what a killed run left behind is taken away by the next
//! nodes      folders, processes, power
//! clients    requests of a mixed load, each checked by the oracle
//! faults     what is done to the cluster, one at a time
//! program    where tests find the program that is shipped
//! report     what was tried and what held
//! run        a run from start to end
//! ```
//!
//! `cargo run --release -p strongroom-tests --bin soak -- --minutes 20` runs the program of `--program`, by default the one beside the
//! soak's own: build it with `-p strongroom`, as it is shipped. All drives and state directories are on [`crate::faultfs`].
//!
//! # A run
//! First zones of nodes start, each zone in a network namespace of its own. Then availability is measured: a node dies, a leader, a zone,
//! a zone's network, each several times, while a prober at each gateway writes without pause and without retries. Then, until the time
//! is over, faults are drawn from the seed, one at a time; media are damaged in one zone only, which the seed picks. Load goes on all the
//! while. At last faults end: every node must become ready, every key must be readable as the oracle allows, through any gateway, and
//! lists must hold what they must.
//!
//! Faults that only `--only` draws go beyond the promise: `beyond-blank` is there to see that the soak sees loss.
//!
//! # What it does not check
//! Order among reads of one key (the simulator's checkers do), metadata, space, multipart, anything with two zones damaged. A run does not
//! repeat from its seed: processes race. The seed gives the same faults in the same order with the same loads, not the same moments.

pub mod limits;

pub mod oracle;

pub mod gaps;
pub mod leftovers;
pub mod network;
pub mod nodes;
pub mod program;

pub mod clients;
pub mod prober;
pub mod faults;
pub mod report;

pub mod run;
