use super::*;

#[test]
fn bounds_in_pairs() {
    assert!(Profile::new(1, 1).is_ok());
    assert!(Profile::new(0, 1).is_err());
    assert!(Profile::new(1, 0).is_err());
    assert!(Profile::new(20, 12).is_ok());
    assert!(Profile::new(20, 13).is_err());
    assert!(Profile::new(255, 255).is_err());
    assert!(Profile::copies(2).is_ok());
    assert!(Profile::copies(1).is_err());
    assert!(Profile::copies(0).is_err());
    assert!(Profile::copies(32).is_ok());
    assert!(Profile::copies(33).is_err());
}

#[test]
fn copies_are_one_of_k() {
    let copies = Profile::copies(3).unwrap();
    assert_eq!((copies.data_count(), copies.parity_count(), copies.fragment_count()), (1, 2, 3));
    assert!(copies.is_copies());
    assert_eq!(copies.to_string(), "3 copies");
    let coded = Profile::new(7, 5).unwrap();
    assert!(!coded.is_copies());
    assert_eq!(coded.to_string(), "RS(7,5)");
}

#[test]
fn a_profile_from_bytes_is_checked() {
    let bytes = postcard::to_stdvec(&Profile::new(7, 5).unwrap()).unwrap();
    assert_eq!(bytes, [7, 5]);
    assert!(postcard::from_bytes::<Profile>(&bytes).is_ok());
    assert!(postcard::from_bytes::<Profile>(&[0, 5]).is_err());
    assert!(postcard::from_bytes::<Profile>(&[30, 5]).is_err());
}
