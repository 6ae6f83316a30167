use super::{Answer, Attempt, DataLoss, Decision, GivenOut, Seal};
use crate::durable::{AckRule, Spread, is_durable};
use crate::fragment_set::FragmentSet;
use crate::mutants::MutantSwitch;
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

/// Decides where the locators reach behind `given_out` rows.
fn decide(spread: &Spread, rule: AckRule, given_out: u32, answers: &[Answer]) -> Decision {
    let given_out = GivenOut::Rows(RowSequence::new(given_out));
    super::decide(Attempt { spread, rule, epoch: EPOCH, given_out, mutants: MutantSwitch::NONE }, answers)
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
    let seal = seal(decide(&copies(&[1, 2, 3]), AckRule::Zone, 4, &answers));
    assert_eq!(
        (seal.sealed.rows, seal.sealed.len_bytes, seal.sealed.root_crc32c),
        (4, 7 * 4096, chain_of(3))
    );
    assert_eq!((seal.sealed.missing, seal.settle), (0, set(&[0, 1, 2])));
    assert!(seal.alarm.is_none());
}

#[test]
fn an_empty_slab_seals_empty() {
    let answers = [(); 2].map(|()| Answer::Report(report(0, 0, &[])));
    let seal = seal(decide(&copies(&[1, 2]), AckRule::Zone, 0, &answers));
    assert_eq!(
        (seal.sealed.rows, seal.sealed.len_bytes, seal.sealed.root_crc32c, seal.sealed.missing),
        (0, 0, 0, 0)
    );
}

#[test]
fn a_short_and_a_silent_holder_are_missing() {
    let answers = [Answer::Report(report(2, 1, &[])), Answer::Silent, Answer::Report(report(3, 1, &[]))];
    let seal = seal(decide(&copies(&[1, 2, 3]), AckRule::Zone, 3, &answers));
    assert_eq!((seal.sealed.rows, seal.sealed.missing), (3, set(&[0, 1]).mask()));
    assert_eq!((seal.settle, seal.complete()), (set(&[2]), set(&[2])));
}

#[test]
fn who_was_silent_counts_once_it_shows_every_row_clean() {
    let answers = [(); 2].map(|()| Answer::Report(report(3, 1, &[])));
    let answers = [answers[0].clone(), answers[1].clone(), Answer::Silent];
    let sealed = seal(decide(&copies(&[1, 2, 3]), AckRule::Zone, 3, &answers)).sealed;
    assert_eq!(sealed.missing, set(&[2]).mask());
    let is_whole = |report: &SealReport| super::is_whole(&sealed, EPOCH, report);
    assert!(is_whole(&report(3, 1, &[])));
    assert!(is_whole(&report(5, 3, &[3, 4])), "what lies behind the end is cut");
    assert!(!is_whole(&report(2, 1, &[])), "short");
    assert!(!is_whole(&report(0, 0, &[])), "blank");
    assert!(!is_whole(&report(3, 1, &[2])), "rotten");
    assert!(!super::is_whole(&sealed, EPOCH.next(), &report(3, 1, &[])), "of another attempt");
    let with = |change: fn(&mut SealReport)| {
        let mut report = report(3, 1, &[]);
        change(&mut report);
        report
    };
    assert!(!is_whole(&with(|report| report.row_chain_crc32c[2] += 1)), "another last row");
    assert!(!is_whole(&with(|report| report.row_ends_blocks[2] += 1)), "of another length");
    assert!(!is_whole(&with(|report| report.row_ends_blocks.truncate(1))), "contradicts itself");
}

#[test]
fn rows_that_nothing_points_to_are_cut_so_that_whole_holders_count_as_whole() {
    let spread = copies(&[1, 2, 3]);
    let answers = [3, 2, 2].map(|rows| Answer::Report(report(rows, 1, &[])));
    let decided = seal(decide(&spread, AckRule::Zone, 2, &answers));
    assert_eq!((decided.sealed.rows, decided.sealed.missing), (2, 0));
    assert_eq!((decided.sealed.root_crc32c, decided.settle), (chain_of(1), set(&[0, 1, 2])));
    // But none that a holder knows to be committed: who says how far locators reach may be wrong, and two must be before a row is cut.
    let answers = [3, 2, 2].map(|rows| Answer::Report(report(rows, 2, &[])));
    assert_eq!(seal(decide(&spread, AckRule::Zone, 1, &answers)).sealed.rows, 2);
}

#[test]
fn the_reach_of_locators_in_bytes_counts_as_the_rows_that_it_touches() {
    let spread = copies(&[1, 2, 3]);
    let answers = [3, 3, 3].map(|rows| Answer::Report(report(rows, 0, &[])));
    // Rows end at blocks 1, 3 and 5.
    for (bytes, rows) in
        [(0, 0), (1, 1), (4096, 1), (4097, 2), (3 * 4096, 2), (3 * 4096 + 1, 3), (5 * 4096, 3)]
    {
        let given_out = GivenOut::Bytes(bytes);
        let attempt = Attempt {
            spread: &spread,
            rule: AckRule::Zone,
            epoch: EPOCH,
            given_out,
            mutants: MutantSwitch::NONE,
        };
        let decided = seal(super::decide(attempt, &answers));
        assert_eq!((decided.sealed.rows, decided.alarm), (rows, None), "{bytes}");
    }
    let given_out = GivenOut::Bytes(5 * 4096 + 1);
    let attempt = Attempt {
        spread: &spread,
        rule: AckRule::Zone,
        epoch: EPOCH,
        given_out,
        mutants: MutantSwitch::NONE,
    };
    let decided = super::decide(attempt, &answers);
    let alarm = Some(DataLoss { rows: vec![RowSequence::new(3)] });
    assert_eq!(decided, Decision::Wait { silent: FragmentSet::EMPTY, alarm }, "a locator behind all rows");
}

#[test]
fn a_corrupt_row_counts_as_present_and_its_fragment_as_missing() {
    let answers = [Answer::Report(report(3, 0, &[2])), Answer::Report(report(3, 0, &[]))];
    let seal = seal(decide(&copies(&[1, 2]), AckRule::Zone, 3, &answers));
    assert_eq!(seal.sealed.rows, 3, "corrupt is not missing");
    assert_eq!((seal.settle, seal.complete()), (set(&[0, 1]), set(&[1])));
    assert_eq!(seal.alarm, None);
}

#[test]
fn a_committed_row_that_nobody_has_clean_raises_the_alarm_and_stays() {
    let spread = copies(&[1, 2, 3]);
    let lost = Some(DataLoss { rows: vec![RowSequence::new(1)] });
    let bad = || Answer::Report(report(3, 0, &[1]));
    let decided = seal(decide(&spread, AckRule::Zone, 2, &[bad(), bad(), bad()]));
    assert_eq!((decided.sealed.rows, decided.alarm), (2, lost.clone()));
    // While someone is silent, the silent one may have it.
    let waiting = decide(&spread, AckRule::Zone, 2, &[bad(), bad(), Answer::Silent]);
    assert_eq!(waiting, Decision::Wait { silent: set(&[2]), alarm: lost.clone() });
    // A row that is gone altogether is never cut off, whoever has answered: nothing is freed while people may still find it.
    let short = || Answer::Report(report(1, 0, &[]));
    let waiting = decide(&spread, AckRule::Zone, 2, &[short(), short(), short()]);
    assert_eq!(waiting, Decision::Wait { silent: FragmentSet::EMPTY, alarm: lost });
    // What was durable once and nothing points to may be gone.
    let bad = || Answer::Report(report(3, 2, &[1]));
    let decided = seal(decide(&spread, AckRule::Zone, 1, &[bad(), bad(), bad()]));
    assert_eq!((decided.sealed.rows, decided.alarm), (2, None));
}

#[test]
fn only_what_nothing_points_to_is_sealed_whoever_is_silent() {
    let spread = copies(&[1, 2, 3]);
    let alone =
        |rows: u32, bad: &[u32]| [Answer::Report(report(rows, 0, bad)), Answer::Silent, Answer::Silent];
    let too_many = Decision::Wait { silent: set(&[1, 2]), alarm: None };
    for short in [alone(3, &[]), alone(1, &[]), alone(3, &[1])] {
        assert_eq!(decide(&spread, AckRule::Zone, 2, &short), too_many, "no alarm: the silent ones have it");
    }
    // A slab into which nothing ever pointed needs nobody's word.
    let nobody = [(); 3].map(|()| Answer::Silent);
    assert_eq!(seal(decide(&spread, AckRule::Zone, 0, &nobody)).sealed.rows, 0);
    let waits = decide(&spread, AckRule::Zone, 1, &nobody);
    assert_eq!(waits, Decision::Wait { silent: set(&[0, 1, 2]), alarm: None });
}

#[test]
fn the_chain_of_the_most_is_believed_and_a_tie_is_not_decided() {
    let spread = copies(&[1, 2, 3]);
    let good = || Answer::Report(report(3, 0, &[]));
    let mut other = report(3, 0, &[]);
    other.row_chain_crc32c[1..].fill(1);
    let other = Answer::Report(other);
    let decided = seal(decide(&spread, AckRule::Zone, 3, &[other.clone(), good(), good()]));
    assert_eq!((decided.sealed.root_crc32c, decided.sealed.missing), (chain_of(2), set(&[0]).mask()));
    assert_eq!(decided.settle, set(&[1, 2]));
    let decided = decide(&spread, AckRule::Zone, 3, &[other.clone(), good(), Answer::Silent]);
    assert_eq!(decided, Decision::Contested { sequence: RowSequence::new(1), silent: set(&[2]) });
    // One alone has the last row, and the others contradict it further up.
    let shorter = || Answer::Report(report(2, 0, &[]));
    let answers = [other, shorter(), shorter()];
    let decided = decide(&spread, AckRule::Zone, 3, &answers);
    assert_eq!(decided, Decision::Contested { sequence: RowSequence::new(1), silent: FragmentSet::EMPTY });
    // Where nothing points to that row, the others are the most.
    let decided = seal(decide(&spread, AckRule::Zone, 2, &answers));
    assert_eq!((decided.sealed.root_crc32c, decided.settle), (chain_of(1), set(&[1, 2])));
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
        let decided = seal(decide(&spread, AckRule::Zone, 2, &answers));
        assert_eq!(decided.sealed.missing, set(&[1]).mask());
    }
    let nobody = decide(&spread, AckRule::Zone, 1, &[]);
    assert_eq!(nobody, Decision::Wait { silent: set(&[0, 1]), alarm: None });
}

/// Every way of having written `rows_max` rows or fewer to each holder, every silent set, every known `committed_upto`, every row that locators
/// may reach to, with every single corrupt row or (`bad` false) none.
fn exhaust(spread: &Spread, rule: AckRule, rows_max: u32, bad: bool) {
    let needed = u32::from(spread.profile().data_count());
    let count = u32::from(spread.profile().fragment_count());
    let base = rows_max + 1;
    for code in 0..base.pow(count) {
        let held: Vec<u32> = (0..count).map(|index| code / base.pow(index) % base).collect();
        let written = |row: u32| -> FragmentSet {
            (0..count as u8).filter(|index| held[usize::from(*index)] > row).map(FragmentIndex::new).collect()
        };
        let acked = (0..rows_max).take_while(|row| is_durable(spread, written(*row), rule)).count() as u32;
        let corruptions = (0..count as usize).flat_map(|index| (0..held[index]).map(move |row| (index, row)));
        let corruptions: Vec<Option<(usize, u32)>> =
            if bad { corruptions.map(Some).collect() } else { vec![None] };
        for silent in (0..1_u32 << count).map(FragmentSet::from_mask) {
            let fits = spread.failures(rule).any(|failure| silent.is_subset_of(failure))
                && spread.all().without(silent).len() >= needed;
            for corruption in &corruptions {
                for (committed, given_out) in [(0, acked), (acked, acked), (acked, 0), (0, 0)] {
                    let answers: Vec<Answer> = (0..count as usize)
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
                    let decision = decide(spread, rule, given_out, &answers);
                    let context = || {
                        format!(
                            "{spread:?} {rule:?} {held:?} {given_out} {silent:?} {corruption:?}: {decision:?}"
                        )
                    };
                    let responders = spread.all().without(silent);
                    let clean = |row: u32| {
                        let mut clean = written(row).intersection(responders);
                        if let Some((index, _)) = corruption.filter(|(_, bad)| *bad == row) {
                            clean.remove(FragmentIndex::new(index as u8));
                        }
                        clean
                    };
                    let all_there = (0..given_out).all(|row| clean(row).len() >= needed);
                    let seal = match &decision {
                        Decision::Wait { alarm, .. } => {
                            assert!(
                                !(all_there && fits) && given_out > 0,
                                "waits without need: {}",
                                context()
                            );
                            assert!(!silent.is_empty(), "for whom? {}", context());
                            assert_eq!(alarm.is_some(), fits, "{}", context());
                            assert!(
                                bad || !fits,
                                "only rot takes what a tolerated failure leaves: {}",
                                context()
                            );
                            continue;
                        }
                        Decision::Contested { .. } => panic!("nobody differs: {}", context()),
                        Decision::Seal(seal) => seal,
                    };
                    assert!(
                        (all_there && (fits || given_out == 0)) || silent.is_empty(),
                        "guesses: {}",
                        context()
                    );
                    // What some answer knows to be committed, or locators point to.
                    let known = answers.iter().filter_map(|answer| match answer {
                        Answer::Report(report) => Some(report.committed_upto.get()),
                        Answer::Silent => None,
                    });
                    let known = known.max().unwrap_or(0).max(given_out);
                    assert!((given_out..=known).contains(&seal.sealed.rows), "{}", context());
                    assert!(!fits || seal.sealed.rows == known, "neither cut nor kept: {}", context());
                    for row in 0..seal.sealed.rows {
                        let sequence = RowSequence::new(row);
                        let named = seal.alarm.as_ref().is_some_and(|alarm| alarm.rows.contains(&sequence));
                        assert_eq!(row < given_out && clean(row).len() < needed, named, "{}", context());
                        assert!(
                            seal.complete().is_subset_of(clean(row)),
                            "complete means clean: {}",
                            context()
                        );
                    }
                    assert!(bad || !fits || known == 0 || seal.complete().len() >= needed, "{}", context());
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
    let zones: [&[u8]; 9] = [
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
    for zones in zones {
        for needed in 1..zones.len() as u8 {
            let spread = coded(needed, zones);
            for rule in [AckRule::Zone, AckRule::ZonePlusOne] {
                exhaust(&spread, rule, 2, false);
                exhaust(&spread, rule, if zones.len() < 5 { 3 } else { 2 }, true);
            }
        }
    }
}

/// RS(`needed`, rest) in these zones, each fragment on a node of its own.
fn coded(needed: u8, zones: &[u8]) -> Spread {
    let places: Vec<_> =
        (0..).zip(zones).map(|(node, zone)| (ZoneId::new(*zone), NodeId::new(node))).collect();
    Spread::from_places(Profile::new(needed, zones.len() as u8 - needed).unwrap(), &places).unwrap()
}

/// Every layout of up to nine holders over up to three zones of up to three nodes, every `k`, every set of holders that a row was written to,
/// every set of them that answers. Where more than six hold, of those who may be silent only the most: fewer silent show no less.
#[test]
fn an_acknowledged_row_survives_up_to_nine_holders() {
    let (has, has_not) = (Answer::Report(report(1, 0, &[])), Answer::Report(report(0, 0, &[])));
    let mut acknowledged = 0_u64;
    for count in 2..=9_u8 {
        for places in crate::durable::tests::layouts(usize::from(count)) {
            let places: Vec<_> =
                places.iter().map(|(zone, node)| (ZoneId::new(*zone), NodeId::new(*node))).collect();
            for (needed, rule) in
                (1..count).flat_map(|k| [AckRule::Zone, AckRule::ZonePlusOne].map(|rule| (k, rule)))
            {
                let spread =
                    Spread::from_places(Profile::new(needed, count - needed).unwrap(), &places).unwrap();
                let silences: Vec<FragmentSet> = match count {
                    ..=6 => (0..1_u32 << count).map(FragmentSet::from_mask).collect(),
                    _ => spread.failures(rule).collect(),
                };
                for written in (0..1_u32 << count).map(FragmentSet::from_mask) {
                    if !is_durable(&spread, written, rule) {
                        continue;
                    }
                    for silent in &silences {
                        let answers: heapless::Vec<Answer, 9> = (0..count)
                            .map(FragmentIndex::new)
                            .map(|fragment| match (silent.contains(fragment), written.contains(fragment)) {
                                (true, _) => Answer::Silent,
                                (false, true) => has.clone(),
                                (false, false) => has_not.clone(),
                            })
                            .collect();
                        acknowledged += 1;
                        match decide(&spread, rule, 1, &answers) {
                            Decision::Wait { alarm, .. } => {
                                let fits = spread.failures(rule).any(|failure| silent.is_subset_of(failure));
                                assert!(
                                    !fits && alarm.is_none(),
                                    "{spread:?} {rule:?} {written:?} {silent:?}"
                                );
                            }
                            Decision::Seal(seal) => {
                                assert_eq!((seal.sealed.rows, &seal.alarm), (1, &None));
                                assert!(seal.complete().len() >= u32::from(needed));
                            }
                            Decision::Contested { .. } => panic!("nobody differs"),
                        }
                    }
                }
            }
        }
    }
    assert!(acknowledged > 500_000, "{acknowledged}");
}

#[test]
fn erasure_coded_fragments_need_k_answers() {
    // RS(2, 1) over three zones: a row that two holders show is in, a row that one shows is not.
    let spread = coded(2, &[1, 2, 3]);
    let rows = |rows: [u32; 3]| rows.map(|rows| Answer::Report(report(rows, 0, &[])));
    let decided = seal(decide(&spread, AckRule::Zone, 2, &rows([3, 2, 1])));
    assert_eq!(
        (decided.sealed.rows, decided.settle, decided.sealed.missing),
        (2, set(&[0, 1]), set(&[2]).mask())
    );
}
