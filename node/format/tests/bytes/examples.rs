//! One fixed value of each structure and of each message, encoded. Never changed: their bytes are pinned.

use bytes::Bytes;
use strongroom_format::checksum::FragmentKey;
use strongroom_format::cold::{ChecksumTable, ColdMark, slice_len};
use strongroom_format::extent::{ExtentHeader, ExtentKind, free_block, retired_block};
use strongroom_format::needle::{self, NeedleFlags, NeedleHeader, NeedleMeta};
use strongroom_format::row::{self, RowFields};
use strongroom_format::seal_mark::SealMark;
use strongroom_format::superblock::{Superblock, TourPlace, Verified};
use strongroom_format::wire::message::{MadeBefore, Source, Sources, Sum, Target};
use strongroom_format::wire::{
    Append, DriveState, Encode, EnvelopeHeader, FinishFragment, FragmentAddress, FragmentReport, Frame,
    FrameKind, Free, Hello, Pong, Read, Refusal, Report, Request, Response, Seal, SealReport, Settle,
    WriteFragment,
};
use strongroom_types::{
    BucketClass, BucketId, ClusterId, DriveId, Epoch, FragmentIndex, Generation, GroupId, NodeId, ObjectKey,
    Profile, RowSequence, SessionId, SlabId, VersionId, WallTime, ZoneId,
};

/// A structure's bytes.
pub struct Example {
    /// The fuzz target that takes them.
    pub target: &'static str,
    /// Which of that target's examples.
    pub name: String,
    /// The bytes; block structures without the zeros at their end.
    pub bytes: Vec<u8>,
}

const CLUSTER: ClusterId = ClusterId::new(0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF);
const DRIVE: DriveId = DriveId::new(0xFEDC_BA98_7654_3210_0123_4567_89AB_CDEF);
const SLAB: SlabId = SlabId::from_bits(0x0003_0000_0000_0102);
const KEY: FragmentKey =
    FragmentKey { slab: SLAB, fragment: FragmentIndex::new(2), generation: Generation::new(4) };

/// All examples.
pub fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    let mut add = |target, name: &str, bytes: &[u8]| {
        examples.push(Example { target, name: name.to_owned(), bytes: bytes.to_vec() });
    };
    blocks(&mut |target, name, bytes| add(target, name, crate::trimmed(bytes)));
    needles(&mut add);
    add("checksum_table", "two-blocks", &checksum_table());
    let frame = Frame::request(&Request::Ping, Bytes::from_static(b"payload"));
    for (name, kind, deadline_ms) in
        [("request", FrameKind::Request, 2500), ("response", FrameKind::Response, 0)]
    {
        let header = EnvelopeHeader::for_frame(kind, 0x0102_0304_0506_0708, deadline_ms, &frame).unwrap();
        add("envelope", name, &header.encode());
    }
    add("hello", "first", &Hello { cluster: CLUSTER, node: NodeId::new(0x0A0B) }.encode());
    for request in requests() {
        let name = match &request {
            Request::Encode(Encode { sources: Sources::Fragments(_), .. }) => String::from("encode-again"),
            Request::Encode(Encode { sources: Sources::Moved(_), .. }) => String::from("encode-moved"),
            other => variant(other),
        };
        add("request", &name, &Frame::request(&request, Bytes::new()).head);
    }
    for response in responses() {
        let name = match &response {
            Response::Refused(refusal) => format!("refused-{}", variant(refusal)),
            other => variant(other),
        };
        add("response", &name, &Frame::response(&response, Bytes::new()).head);
    }
    examples
}

/// The variant's name, in lower case.
fn variant(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.split(|character: char| !character.is_alphanumeric()).next().unwrap().to_lowercase()
}

fn blocks(add: &mut impl FnMut(&'static str, &str, &[u8])) {
    let superblock = Superblock {
        cluster: CLUSTER,
        drive: DRIVE,
        incarnation: 1,
        device_len_bytes: 1_900_000_051_200,
        extent_len_bytes: 16 << 20,
        verified: Verified::default(),
    };
    add("superblock", "drive", &superblock.encode().unwrap());
    let at = WallTime::from_unix_millis;
    let tour = Some(TourPlace { began: at(1_790_000_000_000), origin: SLAB, upto: Some(SLAB) });
    let verified = Verified { since: Some(at(1_780_000_000_000)), tour };
    add("superblock", "tour", &Superblock { verified, ..superblock }.encode().unwrap());

    let extent = ExtentHeader {
        drive: DRIVE,
        slab: SLAB,
        fragment: KEY.fragment,
        generation: KEY.generation,
        ordinal: 5,
        kind: ExtentKind::Hot,
        profile: Profile::copies(3).unwrap(),
        epoch: Epoch::new(6),
    };
    add("extent_header", "hot", &extent.encode(7).unwrap());
    let cold = ExtentHeader { kind: ExtentKind::Cold, profile: Profile::new(7, 5).unwrap(), ..extent };
    add("extent_header", "cold", &cold.encode(7).unwrap());
    add("extent_header", "free", &free_block(DRIVE, 7));
    add("extent_header", "retired", &retired_block(DRIVE, 7));

    let first = RowFields {
        slab: SLAB,
        fragment: KEY.fragment,
        epoch: Epoch::FIRST,
        sequence: RowSequence::FIRST,
        offset_bytes: 0,
        committed_upto: RowSequence::FIRST,
        previous_chain: 0,
    };
    let payload: Vec<u8> = (0..2 * 4096u32).map(|index| (index / 3) as u8).collect();
    let mut bytes = vec![0; payload.len() + 4096];
    let previous_chain = row::encode(&first, &payload, &mut bytes).unwrap();
    add("row_header", "first", &bytes[..4096]);
    let next = RowFields {
        sequence: RowSequence::new(1),
        offset_bytes: 2 * 4096,
        committed_upto: RowSequence::new(1),
        previous_chain,
        ..first
    };
    row::encode(&next, &payload, &mut bytes).unwrap();
    add("row_header", "next", &bytes[..4096]);

    let mark = SealMark {
        slab: SLAB,
        fragment: KEY.fragment,
        generation: KEY.generation,
        epoch: Epoch::new(3),
        rows: 2,
        root_crc32c: 0x1234_5678,
        settled: false,
    };
    add("seal_mark", "fenced", &mark.encode().unwrap());
    add("seal_mark", "settled", &SealMark { settled: true, ..mark }.encode().unwrap());

    let cold = ColdMark {
        slab: SLAB,
        fragment: KEY.fragment,
        generation: KEY.generation,
        matrix: 1,
        profile: Profile::new(7, 5).unwrap(),
        slice_len_bytes: slice_len(100 << 20, 7),
        image_len_bytes: 100 << 20,
        epoch: Epoch::new(3),
        rows: 400,
        root_crc32c: 0x1234_5678,
        table_crc32c: 0x9ABC_DEF0,
    };
    add("cold_mark", "coded", &cold.encode().unwrap());
}

/// Bytes of the header of the needle at the beginning of `bytes`.
pub fn needle_header_len(bytes: &[u8]) -> usize {
    NeedleHeader::scan(bytes).unwrap().header_len_bytes as usize
}

fn needles(add: &mut impl FnMut(&'static str, &str, &[u8])) {
    let meta = NeedleMeta {
        class: BucketClass::Mail,
        tenant: 0x0102_0304,
        bucket: BucketId::new(0x1112_1314_1516_1718),
        key: ObjectKey::new("user/7/mail-\u{fc}").unwrap(),
        version: VersionId::new(0xA0A1_A2A3_A4A5_A6A7_A8A9_AAAB_ACAD_AEAF),
        piece: 3,
        flags: NeedleFlags::PLAIN,
    };
    let needle = |meta: &NeedleMeta, plain: &[u8]| {
        let mut bytes = Vec::new();
        needle::encode(meta, plain, &mut bytes).unwrap();
        bytes
    };
    let mail = needle(&meta, b"Subject: hello\r\n\r\nSee you at noon.\r\n");
    let config = NeedleMeta {
        class: BucketClass::Config,
        key: ObjectKey::new("k").unwrap(),
        piece: 0,
        ..meta.clone()
    };
    let empty = needle(&config, b"");
    add("needle", "mail", &mail);
    add("needle", "empty", &empty);
    // Header only: its frame table has two entries.
    let two = needle(&meta, &vec![b'x'; (64 << 10) + 5]);
    add("needle", "two-frames", &two[..needle_header_len(&two)]);
    add("row_payload", "two-needles", &[&mail[..], &empty, &[0; 20]].concat());
}

/// As the fuzz target takes it: fragment key, length of the slice, table without the zeros at its end.
fn checksum_table() -> Vec<u8> {
    let mut table = ChecksumTable::new(KEY);
    for entry in 0..1022u32 {
        // A few entries that are not zero: the file stays readable.
        table.push_checksum(if entry % 1019 == 0 { 0x0101_0101 * (entry % 7 + 1) } else { 0 }).unwrap();
    }
    let mut bytes = Vec::new();
    bytes.extend(KEY.slab.to_bits().to_le_bytes());
    bytes.extend(KEY.generation.get().to_le_bytes());
    bytes.push(KEY.fragment.get());
    bytes.extend(table.slice_len_bytes().to_le_bytes());
    bytes.extend(table.encode());
    crate::trimmed(&bytes).to_vec()
}

const ADDRESS: FragmentAddress =
    FragmentAddress { drive: DRIVE, slab: SLAB, fragment: KEY.fragment, generation: KEY.generation };

fn requests() -> Vec<Request> {
    let profile = Profile::copies(3).unwrap();
    let coded = Profile::new(7, 5).unwrap();
    let (epoch, rows, root_crc32c, image_len_bytes) = (Epoch::new(3), 400, 0x1234_5678, 100 << 20);
    let before = MadeBefore { generation: ADDRESS.generation, table_crc32c: 0x9ABC_DEF0 };
    let encode = Encode {
        slab: SLAB,
        sources: Sources::Fragments(vec![Source { node: NodeId::new(1), address: ADDRESS }]),
        generation: ADDRESS.generation.next(),
        profile: coded,
        image_len_bytes,
        rows,
        root_crc32c,
        epoch,
        targets: vec![Target {
            fragment: FragmentIndex::new(3),
            node: NodeId::new(2),
            drive: DRIVE,
            before: Some(before),
        }],
    };
    vec![
        Request::Ping,
        Request::Append(Append {
            address: ADDRESS,
            profile,
            epoch,
            sequence: RowSequence::new(300),
            offset_bytes: 1 << 21,
            committed_upto: RowSequence::new(298),
        }),
        Request::Read(Read { address: ADDRESS, offset_bytes: 12345, len_bytes: 678, foreground: true }),
        Request::Seal(Seal { address: ADDRESS, profile, epoch }),
        Request::Settle(Settle { address: ADDRESS, epoch, rows, root_crc32c }),
        Request::WriteFragment(WriteFragment {
            address: ADDRESS,
            profile: coded,
            slice_len_bytes: 4096,
            offset_bytes: 0,
        }),
        Request::FinishFragment(FinishFragment {
            address: ADDRESS,
            image_len_bytes,
            epoch,
            rows,
            root_crc32c,
        }),
        Request::Encode(Encode {
            sources: Sources::Copies(vec![Source { node: NodeId::new(1), address: ADDRESS }]),
            targets: vec![Target {
                fragment: FragmentIndex::new(3),
                node: NodeId::new(2),
                drive: DRIVE,
                before: None,
            }],
            ..encode.clone()
        }),
        Request::Encode(Encode {
            sources: Sources::Moved(vec![Source { node: NodeId::new(1), address: ADDRESS }]),
            ..encode.clone()
        }),
        Request::Encode(encode),
        Request::Free(Free { address: ADDRESS }),
        Request::Report(Report { drive: DRIVE, after: Some(SLAB), limit: 1000 }),
        Request::Raft { group: Some(GroupId::new(3)), body: Bytes::from_static(b"raft") },
        Request::Meta { group: None, body: Bytes::from_static(b"meta") },
        Request::Sum(Sum {
            profile: coded,
            present: 0b110,
            wanted: vec![FragmentIndex::new(0), FragmentIndex::new(3)],
            sources: vec![Source { node: NodeId::new(1), address: ADDRESS }],
            offset_bytes: 262_144,
            len_bytes: 8192,
        }),
    ]
}

fn responses() -> Vec<Response> {
    let mut responses = vec![
        Response::Pong(Pong {
            cluster: CLUSTER,
            node: NodeId::new(7),
            zone: ZoneId::new(2),
            session: SessionId::new(0xABCD),
            drives: vec![DriveState {
                drive: DRIVE,
                extents_total: 1000,
                extents_free: 900,
                extent_len_bytes: 16 << 20,
                writable: false,
                gone: true,
            }],
            drives_failed: 1,
        }),
        Response::Done,
        Response::Bytes,
        Response::Sealed(SealReport {
            epoch: Epoch::new(3),
            rows: 2,
            bad_rows: vec![RowSequence::new(1)],
            row_ends_blocks: vec![4, 300],
            row_chain_crc32c: vec![1, 0xFFFF_FFFF],
            committed_upto: RowSequence::new(1),
        }),
        Response::Finished { table_crc32c: 0x9ABC_DEF0 },
        Response::Encoded { tables_crc32c: vec![1, 2] },
        Response::Fragments {
            fragments: vec![FragmentReport {
                address: ADDRESS,
                profile: Profile::copies(3).unwrap(),
                epoch: Epoch::new(3),
                len_bytes: 1 << 20,
                extents: 1,
                sealed: true,
            }],
            truncated: false,
        },
        Response::Opaque(Bytes::from_static(b"opaque")),
    ];
    let refusals = [
        Refusal::NoSuchDrive,
        Refusal::NotHere,
        Refusal::Beyond { len_bytes: 4096 },
        Refusal::Corrupt { offset_bytes: 8192 },
        Refusal::DriveError,
        Refusal::Fenced { epoch: Epoch::new(3) },
        Refusal::OutOfOrder { expected: RowSequence::new(9) },
        Refusal::OtherGeneration { generation: Generation::new(2) },
        Refusal::Full,
        Refusal::Busy,
        Refusal::Invalid("because".to_owned()),
        Refusal::PeersMissing,
    ];
    responses.extend(refusals.into_iter().map(Response::Refused));
    responses
}
