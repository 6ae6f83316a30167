//! The device as the kernel shows it: O_DIRECT, io_uring, flushes, locks, folders, power cuts.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use strongroom_io::{AlignedBuffer, Backend, Class, OpenMode, Operation, open_drive};
use strongroom_tests::faultfs::content::Tear;
use strongroom_tests::faultfs::control::{self, Order, Reply};
use strongroom_tests::faultfs::mount::{Mounted, skips};
use strongroom_tests::faultfs::volumes::Volumes;
use strongroom_tests::faultfs::weather::{Nature, Weather};
use tempfile::TempDir;

const NATURE: Nature = Nature { tear: Tear::Sector512, len_bytes_max: 1 << 30 };

struct Device {
    volumes: Arc<Volumes>,
    mounted: Mounted,
    dir: TempDir,
}

/// A mounted device with the volumes `a` and `b`; `None`, loudly, where this machine has none.
fn device(seed: u64) -> Option<Device> {
    if skips() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mnt");
    fs::create_dir(&path).unwrap();
    let volumes = Volumes::new(seed);
    for name in ["a", "b"] {
        volumes.add(name, NATURE).unwrap();
    }
    let mounted = Mounted::new(&volumes, &path, "faultfs-test").unwrap();
    Some(Device { volumes, mounted, dir })
}

impl Device {
    fn path(&self, name: &str) -> PathBuf {
        self.mounted.path().join(name)
    }

    fn order(&self, volume: &str, order: Order) {
        control::order(&self.volumes, volume, &order).unwrap();
    }

    fn power_cycle(&self, volume: &str) {
        self.order(volume, Order::PowerCut);
        self.order(volume, Order::PowerOn);
    }
}

#[test]
fn direct_io_reads_what_it_wrote_and_the_page_cache_knows_nothing() {
    let Some(device) = device(1) else { return };
    let path = device.path("a/file");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path)
        .unwrap();
    let mut buffer = AlignedBuffer::zeroed(3 << 20);
    for (index, byte) in buffer.iter_mut().enumerate() {
        *byte = (index / 4096) as u8 ^ index as u8;
    }
    file.write_all_at(&buffer, 8192).unwrap();
    let mut again = AlignedBuffer::zeroed(3 << 20);
    file.read_exact_at(&mut again, 8192).unwrap();
    assert!(buffer[..] == again[..]);
    assert!(fs::read(&path).unwrap()[8192..] == buffer[..]);
    // What another way in changes is seen at once.
    device.order("a", Order::Rot { bits: 1 });
    file.read_exact_at(&mut again, 8192).unwrap();
    assert!(buffer[..] != again[..]);
}

#[test]
fn what_was_synced_survives_power_cuts_and_nothing_foreign_appears() {
    let Some(device) = device(2) else { return };
    let path = device.path("a/file");
    let mut felt = 0;
    for round in 1..=40u8 {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
        file.set_len(64 << 10).unwrap();
        file.write_all_at(&[round; 32 << 10], 0).unwrap();
        file.sync_data().unwrap();
        file.write_all_at(&[255; 64 << 10], 0).unwrap();
        device.power_cycle("a");
        let error = file.write_all_at(&[1; 512], 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO), "a file that was open is void");
        file = File::open(&path).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 64 << 10);
        assert!(bytes[..32 << 10].iter().all(|byte| [round, 255].contains(byte)));
        felt += usize::from(bytes[..32 << 10].contains(&round));
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0; 32 << 10], 32 << 10).unwrap();
    }
    assert!(felt > 10, "{felt} of 40 power cuts were felt");
}

#[test]
fn io_uring_with_direct_io_works_and_feels_errors() {
    let Some(device) = device(3) else { return };
    let path = device.path("a/drive.img");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mode = OpenMode { create_len_bytes: Some(16 << 20), ..OpenMode::default() };
        let drive = open_drive(&path, mode).unwrap();
        assert!(drive.direct());
        let opened = Backend::choose().attach(drive).await.unwrap();
        let submit = |operation| opened.submit(operation, Class::Append);
        for block in 0..64u64 {
            let mut buffer = AlignedBuffer::zeroed(64 << 10);
            buffer.fill(block as u8 + 1);
            submit(Operation::Write { offset_bytes: block << 16, buffer }).await.result.unwrap();
        }
        submit(Operation::Flush).await.result.unwrap();
        let reads = (0..64u64).map(|block| {
            submit(Operation::Read { offset_bytes: block << 16, buffer: AlignedBuffer::zeroed(64 << 10) })
        });
        for (block, done) in futures::future::join_all(reads).await.into_iter().enumerate() {
            done.result.unwrap();
            assert!(done.buffer.unwrap().iter().all(|byte| *byte == block as u8 + 1));
        }
        device.order("a", Order::Weather { weather: Weather { dead: true, ..Weather::default() } });
        let read = Operation::Read { offset_bytes: 0, buffer: AlignedBuffer::zeroed(4096) };
        assert!(submit(read).await.result.unwrap_err().is_media());
        assert!(submit(Operation::Flush).await.result.unwrap_err().is_media());
        opened.close().await;
    });
    assert!(device.volumes.counts().flushes > 1);
}

#[test]
fn a_drive_is_locked_for_one_process_alone() {
    let Some(device) = device(4) else { return };
    let path = device.path("a/drive.img");
    let mode = OpenMode { create_len_bytes: Some(1 << 20), ..OpenMode::default() };
    let first = open_drive(&path, mode).unwrap();
    assert!(open_drive(&path, mode).is_err());
    drop(first);
    open_drive(&path, mode).unwrap();
}

#[test]
fn folders_are_folders() {
    let Some(device) = device(5) else { return };
    let folder = device.path("a/one/two");
    fs::create_dir_all(&folder).unwrap();
    for index in 0..300 {
        fs::write(folder.join(format!("file-{index:03}")), format!("{index}")).unwrap();
    }
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names.len(), 300);
    assert_eq!(names[299], "file-299");
    fs::rename(folder.join("file-000"), folder.join("file-001")).unwrap();
    assert_eq!(fs::read(folder.join("file-001")).unwrap(), b"0");
    assert_eq!(fs::read(folder.join("file-000")).unwrap_err().kind(), ErrorKind::NotFound);
    let elsewhere = fs::rename(folder.join("file-001"), device.path("b/file")).unwrap_err();
    assert_eq!(elsewhere.raw_os_error(), Some(libc::EXDEV));
    let mut file = OpenOptions::new().append(true).open(folder.join("file-002")).unwrap();
    file.write_all(b" and more").unwrap();
    assert_eq!(fs::read(folder.join("file-002")).unwrap(), b"2 and more");
    assert_eq!(fs::metadata(folder.join("file-002")).unwrap().len(), 10);
    fs::remove_dir_all(device.path("a/one")).unwrap();
    assert_eq!(fs::read_dir(device.path("a")).unwrap().count(), 0);
    assert!(fs::create_dir(device.path("c")).is_err(), "volumes are made by command");
}

#[test]
fn a_hanging_volume_holds_answers_until_the_weather_changes_and_others_go_on() {
    let Some(device) = device(6) else { return };
    let path = device.path("a/file");
    fs::write(&path, b"bytes").unwrap();
    let file = File::open(&path).unwrap();
    device.order("a", Order::Weather { weather: Weather { hangs: true, ..Weather::default() } });
    let (told, tell) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut bytes = [0; 5];
        let result = file.read_exact_at(&mut bytes, 0);
        told.send(Instant::now()).unwrap();
        result.map(|()| bytes)
    });
    fs::write(device.path("b/file"), b"goes on").unwrap();
    assert_eq!(fs::read(device.path("b/file")).unwrap(), b"goes on");
    // It is asked for by now, or it is not: in both cases nothing comes before the change.
    assert!(tell.recv_timeout(Duration::from_millis(100)).is_err());
    let changed = Instant::now();
    device.order("a", Order::Weather { weather: Weather::default() });
    assert_eq!(&reader.join().unwrap().unwrap(), b"bytes");
    assert!(tell.recv().unwrap() >= changed);
}

#[test]
fn commands_over_the_socket_are_lines_of_json() {
    let Some(device) = device(7) else { return };
    let socket = device.dir.path().join("control");
    control::serve(&device.volumes, &socket).unwrap();
    let stream = UnixStream::connect(&socket).unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stream.try_clone().unwrap()));
    let mut ask = |line: &str| {
        (&stream).write_all(format!("{line}\n").as_bytes()).unwrap();
        serde_json::from_str::<Reply>(&lines.next().unwrap().unwrap()).unwrap()
    };
    fs::write(device.path("a/file"), b"bytes").unwrap();
    let Reply::Done(counts) = ask(r#"{"do":"counts","volumes":["a","b"]}"#) else { panic!("refused") };
    assert_eq!((counts["a"].writes, counts["b"].writes), (1, 0));
    assert!(matches!(ask(r#"{"do":"add","volumes":["c"]}"#), Reply::Done(_)));
    assert!(matches!(ask(r#"{"do":"weather","volumes":["a"],"weather":{"dead":true}}"#), Reply::Done(_)));
    assert!(fs::read(device.path("a/file")).is_err());
    assert!(matches!(ask(r#"{"do":"power-cut","volumes":["none"]}"#), Reply::Failed(_)));
    assert!(matches!(ask(r#"{"do":"roll-back","volumes":["a"],"name":"none"}"#), Reply::Failed(_)));
    assert!(matches!(ask("nonsense"), Reply::Failed(_)));
    fs::write(device.path("c/file"), b"bytes").unwrap();
}
