use super::FragmentSet;
use std::collections::BTreeSet;
use strongroom_types::FragmentIndex;

fn model(set: FragmentSet) -> BTreeSet<u8> {
    (0..32).filter(|index| set.contains(FragmentIndex::new(*index))).collect()
}

#[test]
fn agrees_with_a_set_of_numbers() {
    let masks = [0, 1, 0b1010, 0x8000_0001, 0xffff_0000, u32::MAX, 0x1234_5678];
    for a in masks {
        for b in masks {
            let (x, y) = (FragmentSet::from_mask(a), FragmentSet::from_mask(b));
            assert_eq!(model(x.union(y)), &model(x) | &model(y));
            assert_eq!(model(x.intersection(y)), &model(x) & &model(y));
            assert_eq!(model(x.without(y)), &model(x) - &model(y));
            assert_eq!(x.is_subset_of(y), model(x).is_subset(&model(y)));
        }
        let set = FragmentSet::from_mask(a);
        assert_eq!(set.len() as usize, model(set).len());
        assert_eq!(set.is_empty(), model(set).is_empty());
        assert_eq!(set.iter().collect::<FragmentSet>(), set);
        assert!(set.iter().map(FragmentIndex::get).eq(model(set)));
        assert_eq!(set.mask(), a);
    }
}

#[test]
fn takes_in_and_out_up_to_the_last_index() {
    let mut set = FragmentSet::EMPTY;
    set.insert(FragmentIndex::new(31));
    assert_eq!(set.mask(), 1 << 31);
    assert!(!set.contains(FragmentIndex::new(32)), "one outside is in no set");
    set.remove(FragmentIndex::new(32));
    set.remove(FragmentIndex::new(31));
    assert!(set.is_empty());
    assert_eq!(FragmentSet::first(32).len(), 32);
    assert_eq!(FragmentSet::first(0), FragmentSet::EMPTY);
    assert_eq!(FragmentSet::first(3).mask(), 0b111);
}

#[test]
#[should_panic(expected = "below 32")]
fn refuses_an_index_outside() {
    FragmentSet::default().insert(FragmentIndex::new(32));
}
