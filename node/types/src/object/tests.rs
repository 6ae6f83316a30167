use super::*;

#[test]
fn bucket_names_in_pairs() {
    let long = |len| "a".repeat(len);
    for right in ["abc", "a-b", "a.b", "1ab", "ab1", "mail.example", "1.2.3", &long(63)] {
        assert!(BucketName::new(right).is_ok(), "{right}");
    }
    for wrong in [
        "",
        "ab",
        "-ab",
        "ab-",
        ".ab",
        "ab.",
        "a..b",
        "Abc",
        "a_b",
        "a b",
        "\u{e4}bc",
        "1.2.3.4",
        "a/b",
        "a\0b",
        &long(64),
    ] {
        assert_eq!(BucketName::new(wrong), Err(NameError::Bucket(wrong.to_owned())));
    }
}

#[test]
fn keys_are_counted_in_bytes() {
    assert!(ObjectKey::new("a").is_ok());
    assert_eq!(ObjectKey::new(""), Err(NameError::KeyEmpty));
    assert!(ObjectKey::new("a".repeat(1024)).is_ok());
    assert_eq!(ObjectKey::new("a".repeat(1025)), Err(NameError::KeyTooLong { len_bytes: 1025 }));
    assert!(ObjectKey::new("\u{fc}".repeat(512)).is_ok());
    assert!(ObjectKey::new("\u{fc}".repeat(513)).is_err());
}

#[test]
fn names_from_bytes_are_checked() {
    let text = |text: &str| postcard::to_stdvec(text).unwrap();
    assert!(postcard::from_bytes::<BucketName>(&text("abc")).is_ok());
    assert!(postcard::from_bytes::<BucketName>(&text("A")).is_err());
    assert!(postcard::from_bytes::<ObjectKey>(&text("k")).is_ok());
    assert!(postcard::from_bytes::<ObjectKey>(&text("")).is_err());
}

#[test]
fn tags_lose_their_quotes() {
    assert_eq!(ETag::new("\"abc\""), ETag::new("abc"));
    assert_eq!(ETag::new("\"abc\"").as_str(), "abc");
}
