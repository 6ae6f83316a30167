//! Which devices are formatted and opened, and which are not touched.

use super::support::{BLOCK, CLUSTER, DRIVE, EXTENT, EXTENTS_AT, World, Writer, device, media, run, spec};
use crate::drive::{FormatSpec, OpenError, format, inspect};
use std::sync::Arc;
use strongroom_format::superblock::{Layout, Superblock, SuperblockError};
use strongroom_io::memory::{Fault, Intent, MemoryMedia};
use strongroom_io::{AlignedBuffer, Class, Device, Operation};
use strongroom_types::{ClusterId, DriveId};

async fn write(media: &Arc<MemoryMedia>, offset_bytes: u64, byte: u8) {
    let mut buffer = AlignedBuffer::zeroed(BLOCK as usize);
    buffer.fill(byte);
    device(media).submit(Operation::Write { offset_bytes, buffer }, Class::Append).await.result.unwrap();
}

fn copies(media: &MemoryMedia) -> [u64; 4] {
    Layout::superblock_offsets_bytes(media.len_bytes()).unwrap()
}

fn image(media: &MemoryMedia) -> Vec<u8> {
    media.peek(0, usize::try_from(media.len_bytes()).unwrap())
}

#[test]
fn a_blank_device_is_formatted_and_not_opened() {
    run(async {
        let media = media(4);
        let opened = World::open(media.clone()).await;
        assert!(matches!(opened.err(), Some(OpenError::Superblock(SuperblockError::Blank))));
        assert!(image(&media).iter().all(|byte| *byte == 0), "never formats silently");
        let superblock = format(device(&media).as_ref(), &spec()).await.unwrap();
        assert_eq!((superblock.cluster, superblock.drive), (CLUSTER, DRIVE));
        assert_eq!(inspect(device(&media).as_ref()).await.unwrap(), superblock);
        let world = World::open(media).await.unwrap();
        assert_eq!((world.drive.drive_state().extents_free, world.drive.drive_state().extents_total), (4, 4));
    });
}

#[test]
fn a_foreign_device_is_left_alone_unless_told_and_is_whole_then() {
    run(async {
        let media = media(8);
        for block in 0..media.len_bytes() / u64::from(BLOCK) {
            write(&media, block * u64::from(BLOCK), 0x5A).await;
        }
        let before = image(&media);
        assert!(matches!(format(device(&media).as_ref(), &spec()).await, Err(OpenError::Foreign)));
        assert!(World::open(media.clone()).await.is_err());
        assert!(image(&media) == before);
        format(device(&media).as_ref(), &FormatSpec { force: true, ..spec() }).await.unwrap();
        let world = World::open(media).await.unwrap();
        assert_eq!(world.drive.drive_state().extents_free, 8, "what was on the device takes no space");
        let mut writer = Writer::new(1);
        writer.rows(&world.drive, &[200]).await;
        let world = world.restart().await;
        writer.check(&world.drive).await;
    });
}

#[test]
fn a_drive_of_ours_is_formatted_only_when_told_and_then_holds_nothing() {
    run(async {
        let world = World::new(6).await;
        Writer::new(1).append(&world.drive, 100).await.unwrap();
        let media = world.media.clone();
        drop(world);
        media.disconnect(1);
        let other = FormatSpec { drive: DriveId::new(10), ..spec() };
        let refused = format(device(&media).as_ref(), &other).await;
        assert!(matches!(refused, Err(OpenError::Ours { drive: DRIVE, cluster: CLUSTER })));
        let found = World::open(media.clone()).await.unwrap();
        assert_eq!(found.reports().len(), 1);
        drop(found);
        media.disconnect(1);
        format(device(&media).as_ref(), &FormatSpec { force: true, ..other }).await.unwrap();
        let world = World::open(media).await.unwrap();
        assert_eq!(world.reports(), []);
        assert_eq!(world.drive.drive_state().extents_free, 6);
    });
}

#[test]
fn a_drive_of_another_cluster_or_a_shrunk_one_is_not_opened() {
    run(async {
        let media = media(4);
        format(device(&media).as_ref(), &FormatSpec { cluster: ClusterId::new(8), ..spec() }).await.unwrap();
        let found = World::open(media).await.err();
        assert!(matches!(found, Some(OpenError::OtherCluster { .. })));

        let whole = World::new(8).await.media;
        whole.disconnect(1);
        let shrunk = MemoryMedia::new(whole.len_bytes() - EXTENT);
        for at in (0..EXTENTS_AT).step_by(BLOCK as usize) {
            let mut buffer = AlignedBuffer::zeroed(BLOCK as usize);
            buffer.copy_from_slice(&whole.peek(at, BLOCK as usize));
            device(&shrunk)
                .submit(Operation::Write { offset_bytes: at, buffer }, Class::Append)
                .await
                .result
                .unwrap();
        }
        assert!(matches!(World::open(shrunk).await.err(), Some(OpenError::Shrunk { .. })));
    });
}

#[test]
fn two_superblocks_that_agree_are_enough_and_one_is_not() {
    run(async {
        for (destroyed, opens) in [(1, true), (2, true), (3, false), (4, false)] {
            let media = World::new(4).await.media;
            media.disconnect(1);
            for copy in &copies(&media)[..destroyed] {
                write(&media, *copy, 0xEE).await;
            }
            let before = image(&media);
            let formatted = format(device(&media).as_ref(), &spec()).await;
            assert!(formatted.is_err(), "never formats silently");
            let opened = World::open(media.clone()).await;
            assert_eq!(opened.is_ok(), opens, "{destroyed} destroyed: {:?}", opened.err());
            if opens {
                media.disconnect(1);
                let superblock = inspect(device(&media).as_ref()).await.unwrap();
                assert_eq!(superblock.incarnation, 3, "two openings");
                for copy in copies(&media) {
                    let copy = media.peek(copy, BLOCK as usize);
                    assert_eq!(Superblock::decode(&copy), Ok(superblock), "an opening mends all four");
                }
            } else {
                assert!(image(&media) == before);
            }
        }
    });
}

#[test]
fn superblocks_that_cannot_be_read_are_neither_blank_nor_foreign() {
    run(async {
        for media in [media(4), World::new(4).await.media] {
            media.disconnect(1);
            let unreadable: [u64; 3] = copies(&media)[..3].try_into().unwrap();
            media.set_plan(Arc::new(move |intent: &Intent| {
                if unreadable.contains(&intent.offset_bytes) { Fault::Error } else { Fault::None }
            }));
            let refused = format(device(&media).as_ref(), &spec()).await;
            assert!(matches!(refused, Err(OpenError::Superblock(SuperblockError::Unreadable { count: 3 }))));
            assert!(World::open(media).await.is_err());
        }
    });
}
