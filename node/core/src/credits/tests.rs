use super::{Busy, Credits};
use proptest::prelude::{any, proptest};

#[test]
fn grants_up_to_the_last_byte_and_no_further() {
    let mut credits = Credits::new(10);
    let seven = credits.take(7).unwrap();
    assert_eq!(credits.take(4).unwrap_err(), Busy { asked_bytes: 4, free_bytes: 3, total_bytes: 10 });
    let three = credits.take(3).unwrap();
    assert_eq!(credits.free_bytes(), 0);
    assert!(credits.take(1).is_err());
    let none = credits.take(0).unwrap();
    credits.give_back(seven);
    credits.give_back(three);
    credits.give_back(none);
    assert_eq!(credits.in_use_bytes(), 0);
}

#[test]
fn splits_and_joins() {
    let mut credits = Credits::new(10);
    let mut grant = credits.take(8).unwrap();
    assert!(grant.split(9).is_none());
    let mut part = grant.split(5).unwrap();
    assert_eq!((grant.bytes(), part.bytes(), credits.in_use_bytes()), (3, 5, 8));
    part.join(grant);
    credits.give_back(part);
    assert_eq!(credits.free_bytes(), 10);
}

#[test]
#[should_panic(expected = "own pool")]
fn a_foreign_grant_is_found() {
    let mut other = Credits::new(100);
    let grant = other.take(1).unwrap();
    Credits::new(10).give_back(grant);
}

proptest! {
    #[test]
    fn what_is_taken_comes_back(steps in proptest::collection::vec((any::<bool>(), 0_u64..60), 0..100)) {
        let mut credits = Credits::new(100);
        let mut grants = Vec::new();
        for (take, bytes) in steps {
            if take {
                let free = credits.free_bytes();
                match credits.take(bytes) {
                    Ok(grant) => grants.push(grant),
                    Err(_) => assert!(bytes > free),
                }
            } else if !grants.is_empty() {
                credits.give_back(grants.swap_remove(bytes as usize % grants.len()));
            }
            let held: u64 = grants.iter().map(super::Grant::bytes).sum();
            assert_eq!(credits.in_use_bytes(), held);
        }
    }
}
