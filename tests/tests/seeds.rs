//! Seeds, stories and schedules that once showed a fault. Each says what was wrong; none may fail again.
//!
//! A schedule keeps its faults when other draws are added, but moments follow from the code: one that failed before its cure need not fail again if
//! the same mistake is made anew. That the mistakes of `strongroom_core::mutants` are seen is asked in `mutants.rs`.

use std::process::Command;

fn passes(args: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().expect("the binary is built");
    assert!(
        output.status.success(),
        "{args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An empty slab was fenced because its writer was silent, killed, and its fences freed, while the writer lived and held it as a spare: its next
/// rows went to a dead slab, and acknowledged mail was lost. A slab without rows is killed only once its writer's session is known to be over.
#[test]
fn an_empty_slab_of_a_silent_writer_that_lives() {
    passes(&["--scenario", "writer-silent-and-alive", "--seeds", "1..3"]);
    passes(&["--scenario", "zone-cut-for-long", "--seeds", "1..3"]);
}

/// A drive that could not be opened kept its whole node from starting.
#[test]
fn nodes_with_a_dead_drive() {
    passes(&["--scenario", "drives-die-one-by-one", "--seeds", "1..3"]);
}

fn plays(schedule: &str) {
    let path = format!("{}/tests/schedules/{schedule}.txt", env!("CARGO_MANIFEST_DIR"));
    passes(&["--schedule", &path, "--once", "--no-shrink"]);
}

/// A slab was sealed by the one holder that answered, and those that were silent counted as missing for good; the one's drive was replaced, and the
/// slab could not be made cold though the others had every row. Found by seed 1035; this schedule fails at b9ac9b5 (I13: background work does not
/// end) and passes since e4f3fca, where who was silent is asked again.
#[test]
fn holders_that_were_silent_at_a_seal_count_once_they_show_every_row() {
    plays("silent-at-the-seal");
}

/// A caretaker stood still in the middle of a seal. Others sealed the slab, made it cold and freed its copies; when it went on, the holders told it that
/// they had nothing, and it raised an alarm that acknowledged rows were lost. Found by seed 42; this schedule raises the alarm in a build from before
/// 0c1734c, where the table is asked first.
#[test]
fn a_caretaker_that_stood_still_in_a_seal_calls_nothing_lost() {
    plays("paused-in-a-seal");
}

/// A conversion was cut short where a drive lost writes: one holder had the marks of its cold fragment and not all of its extents, could not tell that
/// from damage, and refused to have it made again, so that the slab stayed as copies for good. Found by seed 4387 at e8d842b. A layout that does not
/// come about is given up now, and another is made under the next generation; with that taken out this schedule fails (I13: a slab is not cold).
#[test]
fn half_a_cold_fragment_does_not_keep_its_slab_from_becoming_cold() {
    plays("half-a-cold-fragment");
}

/// Power failed everywhere, just after a PUT was acknowledged. The leader came back with its own committed vote, went on as if it had never ended (openraft
/// 0.9.25 does so), and answered a LIST at the index that it remembered, which was from before the PUT. A vote is read back as one that is not known to
/// have won now; read back as it was written, this schedule fails (linearizable per key). Found by seed 11294.
#[test]
fn a_leader_that_comes_back_reads_nothing_before_it_is_elected_again() {
    plays("leader-that-came-back");
}

/// Placement looked at how full drives are, and not at how much a fragment takes: of two drives of a node it chose the one that had no room for it, and
/// chose it again until the layout was given up, minutes later. Found by seed 15491; this schedule fails at 0580bd7 (I13) and passes since 5725d99.
#[test]
fn a_fragment_goes_to_the_drive_that_has_room_for_it() {
    plays("a-drive-without-room");
}

/// A slab was opened for a writer that did not get the answer, and nobody wrote or fenced it as long as the writer lived; so a drive that had a copy of it was never
/// empty, though it was to be. Found by seed 73; this schedule fails (I13) where a writer does not ask for such slabs.
#[test]
fn a_slab_that_its_writer_never_heard_of_does_not_keep_a_drive_from_being_emptied() {
    plays("opened-and-never-heard-of");
}
