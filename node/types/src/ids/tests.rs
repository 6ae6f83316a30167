use super::*;

#[test]
fn a_slab_id_keeps_group_and_count_apart() {
    let count_max = (1 << 48) - 1;
    let slab = SlabId::new(GroupId::new(u16::MAX), count_max).unwrap();
    assert_eq!(slab.to_bits(), u64::MAX);
    assert_eq!(slab.group(), GroupId::new(u16::MAX));
    assert_eq!(SlabId::new(GroupId::new(0), count_max + 1), None);
    assert_eq!(SlabId::new(GroupId::new(3), 258).unwrap().to_string(), "slab-3.258");
    assert_eq!(SlabId::from_bits(slab.to_bits()), slab);
}

#[test]
fn slabs_of_one_group_order_by_count() {
    let slab = |group, count| SlabId::new(GroupId::new(group), count).unwrap();
    assert!(slab(1, 5) < slab(1, 6));
    assert!(slab(1, 6) < slab(2, 0));
}

#[test]
fn the_next_one_follows() {
    assert_eq!(Epoch::FIRST.next(), Epoch::new(2));
    assert_eq!(Generation::FIRST.next(), Generation::new(2));
    assert_eq!(RowSequence::FIRST.next(), RowSequence::new(1));
}

#[test]
#[should_panic(expected = "not 2^32")]
fn an_epoch_never_wraps() {
    let _ = Epoch::new(u32::MAX).next();
}
