//! Every way a snapshot can arrive.

use super::{MAGIC, SnapshotStream, StreamError};
use crate::codec::{seal, unseal};
use crate::damage::{Alarms, Damage};
use crate::kv::{Batch, MemoryKv, MemoryMedia, OrderedKv};
use crate::machine::view::SnapshotView;
use bytes::Bytes;
use std::io::SeekFrom;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

fn source(count: u32) -> SnapshotView {
    let kv = MemoryKv::on(&MemoryMedia::new());
    let mut batch = Batch::default();
    for n in 0..count {
        let key = [&b"gk"[..], &n.to_be_bytes()].concat();
        let value = seal(&key, &vec![n as u8; (n as usize * 37) % 3000]);
        batch.put(key, value);
    }
    batch.put(b"h-not-of-this-state".to_vec(), Bytes::from_static(b"x"));
    kv.apply(batch).unwrap();
    SnapshotView { snapshot: kv.snapshot(), prefix: b"g".to_vec() }
}

fn nowhere() -> Damage {
    Damage::new(Arc::new(MemoryKv::on(&MemoryMedia::new())), Alarms::default())
}

async fn bytes_of(view: &SnapshotView) -> Vec<u8> {
    let mut stream = SnapshotStream::outgoing(view.clone(), nowhere());
    let len = stream.seek(SeekFrom::End(0)).await.unwrap();
    stream.seek(SeekFrom::Start(0)).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes.len() as u64, len);
    bytes
}

fn target() -> (Arc<MemoryKv>, SnapshotStream) {
    let kv = Arc::new(MemoryKv::on(&MemoryMedia::new()));
    let stream = SnapshotStream::incoming(kv.clone(), 9, b"t".to_vec());
    (kv, stream)
}

fn assert_same(view: &SnapshotView, kv: &MemoryKv) {
    let strip = |pairs: Vec<(Bytes, Bytes)>| -> Vec<(Bytes, Bytes)> {
        let value = |key: &Bytes, value: Bytes| unseal("test", key, &value).unwrap();
        pairs.into_iter().map(|(key, sealed)| (key.slice(1..), value(&key, sealed))).collect()
    };
    let sent = strip(view.snapshot.range(b"g", b"h", 100_000).unwrap());
    assert_eq!(strip(kv.range(b"t", b"u", 100_000).unwrap()), sent);
}

#[tokio::test]
async fn a_state_arrives_whole() {
    for count in [0, 1, 255, 256, 257, 2000] {
        let view = source(count);
        let (kv, mut stream) = target();
        stream.write_all(&bytes_of(&view).await).await.unwrap();
        assert_eq!(stream.received().unwrap(), 9);
        assert_same(&view, &kv);
    }
}

#[tokio::test]
async fn pieces_may_come_again_and_overlap() {
    let view = source(2000);
    let bytes = bytes_of(&view).await;
    let (kv, mut stream) = target();
    let mut from = 0;
    while from < bytes.len() {
        let to = (from + 4093).min(bytes.len());
        for start in [from, from.saturating_sub(5000), from] {
            stream.seek(SeekFrom::Start(start as u64)).await.unwrap();
            stream.write_all(&bytes[start..to]).await.unwrap();
        }
        from = to;
    }
    stream.received().unwrap();
    assert_same(&view, &kv);
}

#[tokio::test]
async fn the_sender_reads_any_part_again() {
    let view = source(5000);
    let bytes = bytes_of(&view).await;
    assert!(bytes.len() > 5 << 20, "larger than what the sender keeps");
    let mut stream = SnapshotStream::outgoing(view, nowhere());
    let middle = bytes.len() / 2;
    for start in [0, 10, middle, middle - 100, 3, bytes.len() - 1, 0] {
        stream.seek(SeekFrom::Start(start as u64)).await.unwrap();
        let mut piece = vec![0; (bytes.len() - start).min(100_000)];
        stream.read_exact(&mut piece).await.unwrap();
        assert_eq!(piece, bytes[start..start + piece.len()]);
    }
}

#[tokio::test]
async fn a_gap_is_refused_and_can_be_filled() {
    let view = source(300);
    let bytes = bytes_of(&view).await;
    let (kv, mut stream) = target();
    stream.write_all(&bytes[..100]).await.unwrap();
    stream.seek(SeekFrom::Start(101)).await.unwrap();
    let gap = stream.write_all(&bytes[101..]).await.unwrap_err();
    let expected = StreamError::Gap { offset_bytes: 101, expected: 100 };
    assert_eq!(gap.into_inner().unwrap().downcast::<StreamError>().unwrap(), Box::new(expected));
    stream.seek(SeekFrom::Start(100)).await.unwrap();
    stream.write_all(&bytes[100..]).await.unwrap();
    stream.received().unwrap();
    assert_same(&view, &kv);
}

#[tokio::test]
async fn an_incomplete_snapshot_is_not_received() {
    let bytes = bytes_of(&source(40)).await;
    for len in 0..bytes.len() {
        let (_, mut stream) = target();
        stream.write_all(&bytes[..len]).await.unwrap();
        assert!(stream.received().is_err(), "{len} of {}", bytes.len());
    }
}

#[tokio::test]
async fn no_flipped_bit_and_no_tail_is_received() {
    let bytes = bytes_of(&source(12)).await;
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        let (_, mut stream) = target();
        let written = stream.write_all(&damaged).await;
        assert!(written.is_err() || stream.received().is_err(), "byte {place}");
    }
    let (_, mut stream) = target();
    stream.write_all(&bytes).await.unwrap();
    assert!(stream.write_all(b"x").await.is_err());
    assert!(stream.received().is_err());
}

#[tokio::test]
async fn lengths_beyond_the_bounds_are_refused_before_memory_is_taken() {
    for (key, value) in [(5000u32, 0u32), (0, 1 << 30), (u32::MAX - 1, u32::MAX)] {
        let (_, mut stream) = target();
        let header = [&MAGIC[..], &key.to_be_bytes(), &value.to_be_bytes(), &[0; 4]].concat();
        assert!(stream.write_all(&header).await.is_err());
    }
}

#[tokio::test]
async fn a_stream_has_one_direction() {
    let (_, mut incoming) = target();
    assert!(incoming.read_u8().await.is_err());
    let mut outgoing = SnapshotStream::outgoing(source(1), nowhere());
    assert!(outgoing.write_u8(1).await.is_err());
    assert!(outgoing.received().is_err());
}

#[tokio::test]
async fn after_damage_on_the_way_the_sender_may_begin_again() {
    let view = source(300);
    let bytes = bytes_of(&view).await;
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    let (kv, mut stream) = target();
    assert!(stream.write_all(&damaged).await.is_err());
    assert!(stream.write_all(&bytes).await.is_err(), "from where it was, nothing more is taken");
    stream.seek(SeekFrom::Start(0)).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    stream.received().unwrap();
    assert_same(&view, &kv);
}

#[tokio::test]
async fn damage_that_the_sender_reads_is_told() {
    let media = MemoryMedia::new();
    let kv = Arc::new(MemoryKv::on(&media));
    let mut batch = Batch::default();
    batch.put(b"gk".to_vec(), seal(b"gk", b"value"));
    kv.apply(batch).unwrap();
    assert!(media.corrupt(b"gk"));
    let damage = Damage::new(kv.clone(), Alarms::default());
    let view = SnapshotView { snapshot: kv.snapshot(), prefix: b"g".to_vec() };
    let mut stream = SnapshotStream::outgoing(view, damage.clone());
    assert!(stream.read_to_end(&mut Vec::new()).await.is_err());
    assert!(damage.reason().unwrap().contains("does not match its checksum"));
}
