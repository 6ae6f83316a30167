use super::{Answer, DataLoss, Decision, Seal, decide};
use crate::durable::{AckRule, Spread, is_durable};
use crate::fragment_set::FragmentSet;
use strongroom_format::wire::message::SealReport;
use strongroom_types::limits::ROWS_PER_SLAB_MAX;
use strongroom_types::{Epoch, FragmentIndex, NodeId, Profile, RowSequence, ZoneId};

const EPOCH: Epoch = Epoch::new(2);

/// Copies in these zones, each on a node of its own.
fn copies(zones: &[u8]) -> Spread {
    let places: Vec<_> =
        (0..).zip(zones).map(|(node, zone)| (ZoneId::new(*zone), NodeId::new(node))).collect();
    Spread::from_places(Profile::copies(zones.len() as u8).unwrap(), &places).unwrap()
}

fn chain_of(row: u32) -> u32 {
    0xc0de_0000 + row
}

/// Row r ends at block 2r + 1.
fn report(rows: u32, committed_upto: u32, bad_rows: &[u32]) -> SealReport {
    SealReport {
        epoch: EPOCH,
        rows,
        bad_rows: bad_rows.iter().copied().map(RowSequence::new).collect(),
        row_ends_blocks: (0..rows).map(|row| 2 * row + 1).collect(),
        row_chain_crc32c: (0..rows).map(chain_of).collect(),
        committed_upto: RowSequence::new(committed_upto),
    }
}

fn seal(decision: Decision) -> Seal {
    match decision {
        Decision::Seal(seal) => seal,
        other => panic!("expected a seal, not {other:?}"),
    }
}

fn set(fragments: &[u8]) -> FragmentSet {
    fragments.iter().copied().map(FragmentIndex::new).collect()
}

#[test]
fn an_untouched_slab_seals_whole() {
    let answers = [(); 3].map(|()| Answer::Report(report(4, 4, &[])));
    let seal = seal(decide(&copies(&[1, 2, 3]), AckRule::Zone, EPOCH, &answers));
    assert_eq!(
        (seal.sealed.rows, seal.sealed.len_bytes, seal.sealed.root_crc32c),
        (4, 7 * 4096, chain_of(3))
    );
    assert_eq!((seal.sealed.missing, seal.settle), (0, set(&[0, 1, 2])));
    assert!(seal.torn_rows.is_empty() && seal.alarm.is_none());
}

#[test]
fn an_empty_slab_seals_empty() {
    let answers = [(); 2].map(|()| Answer::Report(report(0, 0, &[])));
    let seal = seal(decide(&copies(&[1, 2]), AckRule::Zone, EPOCH, &answers));
    assert_eq!(
        (seal.sealed.rows, seal.sealed.len_bytes, seal.sealed.root_crc32c, seal.sealed.missing),
        (0, 0, 0, 0)
    );
}

#[test]
fn a_short_and_a_silent_holder_are_missing() {
    let answers = [Answer::Report(report(2, 1, &[])), Answer::Silent, Answer::Report(report(3, 1, &[]))];
    let seal = seal(decide(&copies(&[1, 2, 3]), AckRule::Zone, EPOCH, &answers));
    assert_eq!((seal.sealed.rows, seal.sealed.missing), (3, set(&[0, 1]).mask()));
    assert_eq!((seal.settle, seal.complete()), (set(&[2]), set(&[2])));
}

#[test]
fn a_corrupt_row_counts_as_present_and_its_fragment_as_missing() {
    let answers = [Answer::Report(report(3, 0, &[2])), Answer::Report(report(2, 0, &[]))];
    let seal = seal(decide(&copies(&[1, 2]), AckRule::Zone, EPOCH, &answers));
    assert_eq!(seal.sealed.rows, 3, "corrupt is not missing");
    assert_eq!((seal.settle, seal.complete()), (set(&[0]), FragmentSet::EMPTY));
    assert_eq!((seal.torn_rows, seal.alarm), (vec![RowSequence::new(2)], None));
}

#[test]
fn a_committed_row_that_nobody_has_clean_raises_the_alarm_and_stays() {
    let spread = copies(&[1, 2, 3]);
    let lost = Some(DataLoss { rows: vec![RowSequence::new(1)] });
    let bad = || Answer::Report(report(3, 2, &[1]));
    let decided = seal(decide(&spread, AckRule::Zone, EPOCH, &[bad(), bad(), bad()]));
    assert_eq!((decided.sealed.rows, decided.alarm), (3, lost.clone()));
    // While someone is silent, the silent one may have it.
    let waiting = decide(&spread, AckRule::Zone, EPOCH, &[bad(), bad(), Answer::Silent]);
    assert_eq!(waiting, Decision::Wait { silent: set(&[2]), alarm: lost });
    // Rows below committed_upto that are gone altogether are lost too.
    let short = || Answer::Report(report(1, 2, &[]));
    let decided = seal(decide(&spread, AckRule::Zone, EPOCH, &[short(), short(), short()]));
    assert_eq!(decided.alarm, Some(DataLoss { rows: vec![RowSequence::new(1)] }));
}

#[test]
fn the_chain_of_the_most_is_believed_and_a_tie_is_not_decided() {
    let spread = copies(&[1, 2, 3]);
    let good = || Answer::Report(report(3, 0, &[]));
    let mut other = report(3, 0, &[]);
    other.row_chain_crc32c[1..].fill(1);
    let other = Answer::Report(other);
    let decided = seal(decide(&spread, AckRule::Zone, EPOCH, &[other.clone(), good(), good()]));
    assert_eq!((decided.sealed.root_crc32c, decided.sealed.missing), (chain_of(2), set(&[0]).mask()));
    assert_eq!(decided.settle, set(&[1, 2]));
    let decided = decide(&spread, AckRule::Zone, EPOCH, &[other.clone(), good(), Answer::Silent]);
    assert_eq!(decided, Decision::Contested { sequence: RowSequence::new(1), silent: set(&[2]) });
    // One alone has the last row, and the others contradict it further up.
    let shorter = || Answer::Report(report(2, 0, &[]));
    let decided = decide(&spread, AckRule::Zone, EPOCH, &[other, shorter(), shorter()]);
    assert_eq!(decided, Decision::Contested { sequence: RowSequence::new(1), silent: FragmentSet::EMPTY });
}

#[test]
fn reports_that_contradict_themselves_or_another_attempt_count_as_silence() {
    let spread = copies(&[1, 2]);
    let sound = report(2, 0, &[]);
    let spoilt: [fn(&mut SealReport); 9] = [
        |report| report.epoch = Epoch::FIRST,
        |report| report.rows = 3,
        |report| report.row_ends_blocks = vec![1, 1],
        |report| report.row_ends_blocks = vec![0, 1],
        |report| report.row_ends_blocks = vec![1, u32::MAX],
        |report| report.row_chain_crc32c.clear(),
        |report| report.bad_rows = vec![RowSequence::new(2)],
        |report| report.bad_rows = vec![RowSequence::new(1), RowSequence::new(0)],
        |report| report.committed_upto = RowSequence::new(ROWS_PER_SLAB_MAX + 1),
    ];
    for spoil in spoilt {
        let mut report = sound.clone();
        spoil(&mut report);
        let answers = [Answer::Report(sound.clone()), Answer::Report(report)];
        let decided = seal(decide(&spread, AckRule::Zone, EPOCH, &answers));
        assert_eq!(decided.sealed.missing, set(&[1]).mask());
    }
    let nobody = decide(&spread, AckRule::Zone, EPOCH, &[]);
    assert_eq!(nobody, Decision::Wait { silent: set(&[0, 1]), alarm: None });
}

/// Every way of having written `rows_max` rows or fewer to each holder, every silent set, every known `committed_upto`, with every
/// single corrupt row or (`bad` false) none.
fn exhaust(zones: &[u8], rule: AckRule, rows_max: u32, bad: bool) {
    let spread = copies(zones);
    let count = zones.len();
    let base = rows_max + 1;
    for code in 0..base.pow(count as u32) {
        let held: Vec<u32> = (0..count as u32).map(|index| code / base.pow(index) % base).collect();
        let written = |row: u32| -> FragmentSet {
            (0..count as u8).filter(|index| held[usize::from(*index)] > row).map(FragmentIndex::new).collect()
        };
        let acked = (0..rows_max).take_while(|row| is_durable(&spread, written(*row), rule)).count() as u32;
        let corruptions = (0..count).flat_map(|index| (0..held[index]).map(move |row| (index, row)));
        let corruptions: Vec<Option<(usize, u32)>> =
            if bad { corruptions.map(Some).collect() } else { vec![None] };
        for silent in (0..1_u32 << count).map(FragmentSet::from_mask) {
            let fits =
                silent != spread.all() && spread.failures(rule).any(|failure| silent.is_subset_of(failure));
            for corruption in &corruptions {
                for committed in [0, acked] {
                    let answers: Vec<Answer> = (0..count)
                        .map(|index| {
                            let bad = corruption.filter(|(at, _)| *at == index).map(|(_, row)| row);
                            if silent.contains(FragmentIndex::new(index as u8)) {
                                Answer::Silent
                            } else {
                                Answer::Report(report(
                                    held[index],
                                    committed.min(held[index]),
                                    bad.as_slice(),
                                ))
                            }
                        })
                        .collect();
                    let decision = decide(&spread, rule, EPOCH, &answers);
                    let context =
                        || format!("{zones:?} {rule:?} {held:?} {silent:?} {corruption:?}: {decision:?}");
                    let seal = match &decision {
                        Decision::Wait { alarm: None, .. } => {
                            assert!(!fits, "waits without need: {}", context());
                            continue;
                        }
                        Decision::Wait { alarm: Some(_), .. } => {
                            assert!(fits && bad && !silent.is_empty(), "{}", context());
                            continue;
                        }
                        Decision::Contested { .. } => panic!("nobody differs: {}", context()),
                        Decision::Seal(seal) => seal,
                    };
                    assert!(fits, "guesses: {}", context());
                    assert!(acked <= seal.sealed.rows, "an acknowledged row is cut off: {}", context());
                    let responders = spread.all().without(silent);
                    for row in 0..seal.sealed.rows {
                        let mut clean = written(row).intersection(responders);
                        if let Some((index, _)) = corruption.filter(|(_, bad)| *bad == row) {
                            clean.remove(FragmentIndex::new(index as u8));
                        }
                        let sequence = RowSequence::new(row);
                        let named = seal.torn_rows.contains(&sequence)
                            || seal.alarm.as_ref().is_some_and(|alarm| alarm.rows.contains(&sequence));
                        assert_eq!(clean.is_empty(), named, "{}", context());
                        assert!(seal.complete().is_subset_of(clean), "complete means clean: {}", context());
                    }
                    assert!(bad || !seal.complete().is_empty(), "{}", context());
                    assert!(
                        seal.complete().is_subset_of(seal.settle) && seal.settle.is_subset_of(responders)
                    );
                }
            }
        }
    }
}

#[test]
fn an_acknowledged_row_survives_every_decision() {
    let layouts: [&[u8]; 9] = [
        &[1, 2],
        &[1, 2, 3],
        &[1, 1, 2],
        &[1, 1, 2, 2],
        &[1, 2, 3, 4],
        &[1, 1, 2, 3],
        &[1, 1, 2, 2, 3],
        &[1, 1, 1, 2, 2],
        &[1, 2, 3, 4, 5],
    ];
    for zones in layouts {
        for rule in [AckRule::Zone, AckRule::ZonePlusOne] {
            exhaust(zones, rule, 2, false);
            exhaust(zones, rule, if zones.len() < 5 { 3 } else { 2 }, true);
        }
    }
}

#[test]
fn erasure_coded_fragments_need_k_answers() {
    // RS(2, 1) over three zones: a row that two holders show is in, a row that one shows is not.
    let places = [1, 2, 3].map(|zone| (ZoneId::new(zone), NodeId::new(u64::from(zone))));
    let spread = Spread::from_places(Profile::new(2, 1).unwrap(), &places).unwrap();
    let rows = |rows: [u32; 3]| rows.map(|rows| Answer::Report(report(rows, 0, &[])));
    let decided = seal(decide(&spread, AckRule::Zone, EPOCH, &rows([3, 2, 1])));
    assert_eq!(
        (decided.sealed.rows, decided.settle, decided.sealed.missing),
        (2, set(&[0, 1]), set(&[2]).mask())
    );
}
