use super::*;

fn example() -> String {
    let mut text = String::from(
        r#"[cluster]
id = "0123456789abcdef0123456789abcdef"
groups = 4

[node]
id = 1
state_dir = "state"
drives = ["drive-0"]
s3_listen = "127.0.0.1:9000"
control_socket = "control.sock"

[credentials]
access_key = "AKIA"
secret_key = "12345678"
"#,
    );
    for node in 1..=3 {
        text.push_str(&format!(
            "\n[[member]]\nid = {node}\nzone = {node}\naddress = \"127.0.0.1:710{node}\"\n"
        ));
    }
    text
}

fn refusal(from: &str, to: &str) -> String {
    let text = example();
    assert!(text.contains(from), "the example has {from:?}");
    Config::parse(Path::new("/n/node.toml"), &text.replacen(from, to, 1)).expect_err("refused").to_string()
}

#[test]
fn example_is_accepted_and_paths_are_relative_to_the_file() {
    let config = Config::parse(Path::new("/n/node.toml"), &example()).unwrap();
    assert_eq!(config.drives, [PathBuf::from("/n/drive-0")]);
    assert_eq!(config.members.len(), 3);
    assert_eq!(config.own().zone, ZoneId::new(1));
    assert_eq!(config.slab, SlabPolicy::default());
    assert_eq!(config.background, BackgroundPolicy::default());
}

#[test]
fn errors_name_file_line_field_and_expectation() {
    for (from, to, parts) in [
        ("groups = 4", "groups = 0", ["node.toml:3", "cluster.groups", "1 to 1024"]),
        ("groups = 4", "groups = \"x\"", ["node.toml:3", "groups", "expected u16"]),
        ("id = \"0123", "id = \"z123", ["node.toml:2", "cluster.id", "32 hexadecimal digits"]),
        ("id = 1\nstate", "id = 9\nstate", ["node.toml:6", "node.id", "[[member]]"]),
        (
            "secret_key = \"12345678\"",
            "secret_key = \"1234567\"",
            ["node.toml:14", "secret_key", "8 or more"],
        ),
        ("s3_listen", "s3_lisen", ["node.toml:9", "s3_lisen", "expected one of"]),
        ("127.0.0.1:9000", "127.0.0.1", ["node.toml:9", "s3_listen", "socket address"]),
        ("zone = 3", "zone = 2", ["node.toml", "member", "3 to 8 zones"]),
        ("[\"drive-0\"]", "[\"a\", \"a\"]", ["node.toml:8", "node.drives", "each path once"]),
        (
            "[credentials]",
            "[slab]\nlen_bytes_max = 10000001\n[credentials]",
            ["node.toml:13", "slab.len_bytes_max", "a multiple of 4096"],
        ),
        (
            "[credentials]",
            "[slab]\nage_ms_max = 999\n[credentials]",
            ["node.toml:13", "slab.age_ms_max", "1000 to"],
        ),
        ("[cluster]", "[cluster", ["node.toml:1", "", ""]),
    ] {
        let message = refusal(from, to);
        for part in parts {
            assert!(message.contains(part), "{message:?} contains {part:?}");
        }
    }
}

#[test]
fn a_secret_is_not_printed() {
    // Not the example's: digits that are in its cluster id too.
    let text = example().replace("\"12345678\"", "\"never-printed\"");
    let config = Config::parse(Path::new("node.toml"), &text).unwrap();
    assert_eq!(config.credentials.secret_key, "never-printed");
    assert!(!format!("{config:?}").contains("never-printed"));
}

#[test]
fn slab_length_bounds_in_pairs() {
    let with = |len: u64| {
        let text = format!("{}\n[slab]\nlen_bytes_max = {len}\n", example());
        Config::parse(Path::new("node.toml"), &text)
    };
    assert!(with(u64::from(SLAB_LEN_BYTES_MIN)).is_ok());
    assert!(with(u64::from(SLAB_LEN_BYTES_MIN - BLOCK_LEN_BYTES)).is_err());
    assert!(with(u64::from(SLAB_LEN_BYTES_MAX)).is_ok());
    assert!(with(u64::from(SLAB_LEN_BYTES_MAX + BLOCK_LEN_BYTES)).is_err());
    assert!(with(u64::from(SLAB_LEN_BYTES_MIN + BLOCK_LEN_BYTES)).is_ok());
    assert!(with(u64::from(SLAB_LEN_BYTES_MIN) + 1).is_err());
}

#[test]
fn background_is_taken_within_its_bounds_and_refused_beyond() {
    let with = |section: &str| {
        let text = example().replacen("[credentials]", &format!("[background]\n{section}\n[credentials]"), 1);
        Config::parse(Path::new("/n/node.toml"), &text)
    };
    let config = with("scrub_period_ms = 1000\nyield_to_foreground = false\nrepair_bytes_per_s = 1\nrepair_far_bytes_per_s = 7\nparity_period_ms = 2000").unwrap();
    let (bytes_per_second, far_bytes_per_second) = (NonZeroU64::new(1), NonZeroU64::new(7));
    let repair = Budget { bytes_per_second, operations_per_second: None, far_bytes_per_second };
    let expected = BackgroundPolicy {
        scrub_period: Duration::from_secs(1),
        parity_period: Duration::from_secs(2),
        yields: false,
        repair,
    };
    assert_eq!(config.background, expected);
    for (section, part) in [
        ("scrub_period_ms = 999", "background.scrub_period_ms: found 999"),
        ("yield_to_foreground = 1", "boolean"),
        ("repair_operations_per_s = 0", "background.repair_operations_per_s: found 0"),
        ("scrub_perod_ms = 1000", "expected"),
    ] {
        let error = with(section).expect_err("refused").to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn who_joins_names_itself_and_one_other_and_who_founds_three_zones() {
    let alone = example().split("\n[[member]]\nid = 2").next().unwrap().to_owned();
    let parse = |text: &str| Config::parse(Path::new("/n/node.toml"), text);
    let joins = |text: &str| text.replace("id = 1\nstate_dir", "id = 1\njoins = true\nstate_dir");
    assert!(!parse(&example()).unwrap().joins);
    assert!(parse(&joins(&example())).unwrap().joins);
    let two = format!("{alone}\n[[member]]\nid = 2\nzone = 1\naddress = \"127.0.0.1:7102\"\n");
    assert_eq!(parse(&joins(&two)).unwrap().members.len(), 2);
    for (text, expected) in
        [(two, "3 to 256 nodes in 3 to 8 zones"), (joins(&alone), "2 to 256 nodes in 1 to 8 zones")]
    {
        let refused = parse(&text).expect_err("refused").to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}
