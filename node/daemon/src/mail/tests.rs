//! Sources against folders that the tests lay out, generated mail against its promises, and real mail where there is some.

use super::{Generated, MAIL_LEN_BYTES_MAX, Mail, MailError, MailFormat, MailSource, generate, sniff};
use mail_parser::{MessageParser, MimeHeaders};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn lay(files: &[(&str, &[u8])]) -> TempDir {
    let root = TempDir::new().unwrap();
    for (name, bytes) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    root
}

fn all(source: MailSource) -> Vec<(String, Vec<u8>)> {
    source.map(|mail| mail.unwrap()).map(|Mail { name, bytes }| (name, bytes.to_vec())).collect()
}

fn refusal(path: &Path) -> MailError {
    match MailSource::open(path) {
        Ok(source) => panic!("{} was taken as {:?}", path.display(), source.format()),
        Err(error) => error,
    }
}

#[test]
fn a_tree_gives_every_file_as_it_is_in_the_order_of_names() {
    let root = lay(&[
        ("b/2.eml", b"Subject: two\r\n\r\n"),
        ("a.txt", b"not even a header"),
        ("b/1.msg", b""),
        ("paper.pdf", b"%PDF\0\xFF"),
        ("LICENSE.txt", b"terms"),
        ("b/README", b"about"),
        ("make.py", b"code"),
        (".hidden", b"x"),
        (".git/config", b"x"),
    ]);
    let mut source = MailSource::open(root.path()).unwrap();
    assert_eq!(source.format(), MailFormat::Tree);
    let mut names = Vec::new();
    for mail in source.by_ref() {
        let mail = mail.unwrap();
        assert_eq!(mail.bytes, fs::read(root.path().join(&mail.name)).unwrap());
        names.push(mail.name);
    }
    assert_eq!(names, ["a.txt", "b/1.msg", "b/2.eml", "paper.pdf"]);
    assert_eq!(source.skipped_count(), 5);
}

#[test]
fn a_maildir_gives_what_was_delivered_and_its_subfolders() {
    let root = lay(&[
        ("new/1700000000.M1P1.host", b"Subject: new\n\n"),
        ("cur/1700000001.M2P1.host:2,S", b"Subject: seen\n\n"),
        ("tmp/1700000002.M3P1.host", b"Subject: half"),
        (".Sent/cur/1700000003.M4P1.host:2,", b"Subject: sent\n\n"),
        (".Sent/new/.keep", b""),
        ("dovecot-uidlist", b"3 V1"),
    ]);
    let source = MailSource::open(root.path()).unwrap();
    assert_eq!(source.format(), MailFormat::Maildir);
    let names: Vec<String> = all(source).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [".Sent/cur/1700000003.M4P1.host:2,", "cur/1700000001.M2P1.host:2,S", "new/1700000000.M1P1.host"]
    );
}

#[test]
fn an_mbox_gives_its_messages_without_what_the_format_added() {
    let mbox = b"From a@example.com Thu Jan  1 00:00:00 2026\nSubject: one\n\n>From the start\nbody\n\n\
                 From b@example.com Thu Jan  1 00:00:01 2026\r\nSubject: two\r\n\r\n\r\n\
                 From - x\nSubject: three\n\nno end of line";
    let expected: [(&str, &[u8]); 3] = [
        ("old/000000.eml", b"Subject: one\n\nFrom the start\nbody\n"),
        ("old/000001.eml", b"Subject: two\r\n\r\n"),
        ("old/000002.eml", b"Subject: three\n\nno end of line"),
    ];
    let expected = expected.map(|(name, bytes)| (name.to_owned(), bytes.to_vec()));
    let marked = [b"\xEF\xBB\xBF".as_slice(), mbox].concat();
    for bytes in [mbox.as_slice(), &marked] {
        let root = lay(&[("old.mbox", bytes)]);
        let source = MailSource::open(&root.path().join("old.mbox")).unwrap();
        assert_eq!(source.format(), MailFormat::Mbox);
        assert_eq!(all(source), expected);
    }
}

#[test]
fn an_mbox_message_above_the_bound_is_refused_and_nothing_follows() {
    let root = lay(&[("big.mbox", b"")]);
    let path = root.path().join("big.mbox");
    let line = [b'x'; 1023].iter().copied().chain([b'\n']).collect::<Vec<u8>>();
    let mut bytes = b"From a b\nSubject: fits\n\nFrom a b\n".to_vec();
    while bytes.len() as u64 <= MAIL_LEN_BYTES_MAX + 1024 * 1024 {
        bytes.extend_from_slice(&line);
    }
    bytes.extend_from_slice(b"\nFrom a b\nSubject: never reached\n\n");
    fs::write(&path, bytes).unwrap();
    let mut source = MailSource::open(&path).unwrap();
    assert_eq!(source.next().unwrap().unwrap().bytes.as_ref(), b"Subject: fits\n");
    assert!(matches!(source.next(), Some(Err(MailError::TooLong { path: at })) if at == path));
    assert!(source.next().is_none());
}

#[test]
fn a_file_is_taken_up_to_the_bound_and_refused_above_it() {
    for (over, taken) in [(0, true), (1, false)] {
        let root = lay(&[("big.eml", b"Subject: big\n")]);
        let path = root.path().join("big.eml");
        fs::File::options().write(true).open(&path).unwrap().set_len(MAIL_LEN_BYTES_MAX + over).unwrap();
        assert_eq!(MailSource::open(&path).is_ok(), taken);
        let first = MailSource::open(root.path()).unwrap().next().unwrap();
        assert_eq!(first.is_ok(), taken);
    }
}

#[test]
fn one_message_is_a_source_of_one() {
    let root = lay(&[("only.eml", b"Subject: only\r\n\r\nbody")]);
    let source = MailSource::open(&root.path().join("only.eml")).unwrap();
    assert_eq!(source.format(), MailFormat::Message);
    assert_eq!(all(source), [("only.eml".to_owned(), b"Subject: only\r\n\r\nbody".to_vec())]);
}

#[test]
fn what_is_no_mail_is_refused_by_name() {
    let root = lay(&[("picture.png", b"\x89PNG\r\n"), ("empty.eml", b""), ("folder/README.md", b"x")]);
    for name in ["picture.png", "empty.eml"] {
        let path = root.path().join(name);
        let error = refusal(&path);
        assert!(matches!(error, MailError::NotMail { .. }));
        assert!(error.to_string().contains(name) && error.to_string().contains("expected"), "{error}");
    }
    assert!(matches!(refusal(&root.path().join("folder")), MailError::Empty { .. }));
    assert!(matches!(refusal(&root.path().join("absent")), MailError::Read { .. }));
}

#[test]
fn formats_are_told_apart_by_content() {
    for mbox in ["From a", "\u{FEFF}From -"] {
        assert_eq!(sniff(mbox.as_bytes()), Some(MailFormat::Mbox), "{mbox}");
    }
    for message in ["From: a", "X-Header_1: b", "Subject:", "\u{FEFF}Date: x"] {
        assert_eq!(sniff(message.as_bytes()), Some(MailFormat::Message), "{message}");
    }
    for neither in ["", "\r\n", ":", ": x", "Dear all,", "no colon", "two words: x"] {
        assert_eq!(sniff(neither.as_bytes()), None, "{neither}");
    }
}

#[test]
fn names_that_are_no_text_stay_apart() {
    use std::os::unix::ffi::OsStrExt;
    let root = TempDir::new().unwrap();
    let raw: [&[u8]; 4] = [b"a\xFF", b"a%FF", b"a\n", "caf\u{e9}".as_bytes()];
    for name in raw {
        fs::write(root.path().join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    let names: BTreeSet<String> =
        all(MailSource::open(root.path()).unwrap()).into_iter().map(|(name, _)| name).collect();
    let expected = ["a%FF", "a%25FF", "a%0A", "caf\u{e9}"].map(str::to_owned);
    assert_eq!(names, BTreeSet::from(expected));
}

#[test]
fn a_name_of_a_key_s_length_passes_and_a_longer_one_is_refused() {
    let folder = format!("{0}/{0}/{0}/{1}", "f".repeat(255), "g".repeat(254));
    for (file, taken) in [("x", true), ("xy", false)] {
        let name = format!("{folder}/{file}");
        assert_eq!(name.len() <= super::NAME_LEN_BYTES_MAX, taken);
        let root = lay(&[(&name, b"x")]);
        let first = MailSource::open(root.path()).unwrap().next().unwrap();
        assert_eq!(first.is_ok(), taken);
    }
}

const SEED: u64 = 7;

fn sizes(count: u64) -> Vec<usize> {
    let mails: Generated = generate(SEED, count);
    let mut sizes: Vec<usize> = (0..count).map(|index| mails.len_bytes(index)).collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn generated_sizes_are_those_of_a_mail_store() {
    let sizes = sizes(400_000);
    let at = |share: f64| sizes[(share * sizes.len() as f64) as usize] as f64 / 1024.0;
    let mean = sizes.iter().sum::<usize>() as f64 / sizes.len() as f64 / 1024.0;
    // The documented quantiles, within what 400,000 draws leave open.
    for (share, expected) in
        [(0.10, 3.0), (0.25, 6.6), (0.50, 24.2), (0.75, 47.7), (0.90, 78.4), (0.95, 123.0)]
    {
        assert!(
            (at(share) / expected - 1.0).abs() < 0.03,
            "p{share} is {} KiB, expected {expected}",
            at(share)
        );
    }
    for (share, expected) in [(0.99, 1007.0), (0.999, 5115.0)] {
        assert!(
            (at(share) / expected - 1.0).abs() < 0.10,
            "p{share} is {} KiB, expected {expected}",
            at(share)
        );
    }
    assert!((60.0..75.0).contains(&mean), "mean is {mean} KiB");
    assert!(at(0.99999) > 16.0 * 1024.0, "a tail beyond 16 MiB");
    assert!(sizes[0] >= 1024 && *sizes.last().unwrap() <= 50 * 1024 * 1024);
}

#[test]
fn generated_mail_is_mail() {
    let mails = generate(SEED, 300);
    let mut attachments = 0;
    let mut names = BTreeSet::new();
    for (index, mail) in generate(SEED, 300).enumerate() {
        assert_eq!(mail.bytes.len(), mails.len_bytes(index as u64));
        assert!(mail.bytes.is_ascii() && mail.bytes.ends_with(b"\r\n"));
        for line in mail.bytes.split(|&byte| byte == b'\n') {
            assert!(line.len() <= 79, "a line of {} bytes", line.len());
            assert!(line.is_empty() || line.ends_with(b"\r"), "a line without CR");
        }
        let parsed = MessageParser::default().parse(mail.bytes.as_ref()).unwrap();
        assert!(parsed.date().is_some_and(|date| date.is_valid()));
        let weekday = parsed.date().unwrap().day_of_week();
        let stated = parsed.header_raw("Date").unwrap().trim()[..3].to_owned();
        assert_eq!(stated, ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"][usize::from(weekday)]);
        assert!(parsed.from().is_some() && parsed.subject().is_some() && parsed.message_id().is_some());
        assert!(parsed.body_text(0).is_some_and(|text| !text.is_empty()));
        for file in parsed.attachments() {
            assert!(!file.is_encoding_problem && file.attachment_name().is_some());
            attachments += 1;
        }
        assert!(names.insert(mail.name));
    }
    assert!(attachments > 5, "{attachments} attachments");
}

#[test]
fn a_seed_means_the_same_bytes_for_ever_and_in_any_order() {
    let forward: Vec<Mail> = generate(SEED, 20).collect();
    let mails = generate(SEED, 0);
    for index in (0..20).rev() {
        assert_eq!(mails.mail(index), forward[index as usize]);
    }
    assert_ne!(generate(SEED + 1, 1).next().unwrap().bytes, forward[0].bytes);
    let golden = forward.iter().fold(0, |crc, mail| crc32c::crc32c_append(crc, &mail.bytes));
    assert_eq!(
        golden, GOLDEN_CRC32C,
        "generated mail changed: figures of older runs cannot be compared any more"
    );
}

/// CRC-32C of the first twenty mails of [`SEED`].
const GOLDEN_CRC32C: u32 = 0xF89E_2E00;

/// Real mail: where `STRONGROOM_MAIL` points, else `shared/mail` beside the checkout, else none.
fn real_mail() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("STRONGROOM_MAIL") {
        return Some(path.into());
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().map(|folder| folder.join("shared/mail")).find(|folder| folder.is_dir())
}

#[test]
fn mail_of_a_store_is_taken_byte_for_byte() {
    let made = TempDir::new().unwrap();
    let root = real_mail().unwrap_or_else(|| {
        for mail in generate(SEED, 50) {
            let path = made.path().join(&mail.name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &mail.bytes).unwrap();
        }
        made.path().to_owned()
    });
    let mut names = BTreeSet::new();
    for mail in MailSource::open(&root).unwrap() {
        let mail = mail.unwrap();
        if !mail.name.contains('%') {
            assert_eq!(mail.bytes, fs::read(root.join(&mail.name)).unwrap(), "{}", mail.name);
        }
        assert!(names.insert(mail.name));
    }
    assert!(names.len() >= 50, "{} mails", names.len());
}

#[test]
fn each_real_mbox_and_message_opens_alone() {
    let Some(root) = real_mail() else { return };
    let mut mboxes = 0;
    for mail in MailSource::open(&root).unwrap() {
        let mail = mail.unwrap();
        let path = root.join(&mail.name);
        match (sniff(&mail.bytes), MailSource::open(&path)) {
            (Some(MailFormat::Mbox), Ok(source)) => {
                mboxes += 1;
                let messages = all(source);
                let total: usize = messages.iter().map(|(_, bytes)| bytes.len()).sum();
                assert!(!messages.is_empty() && total < mail.bytes.len(), "{}", path.display());
            }
            (Some(_), Ok(source)) => assert_eq!(all(source), [(file_name(&path), mail.bytes.to_vec())]),
            (None, Err(MailError::NotMail { .. })) => {}
            (found, opened) => panic!("{}: {found:?}, opened: {}", path.display(), opened.is_ok()),
        }
    }
    assert!(std::env::var_os("STRONGROOM_MAIL").is_some() || mboxes > 0, "the shared mail holds mbox files");
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}
