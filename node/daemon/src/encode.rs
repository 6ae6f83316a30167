//! One zone's share of a conversion or a repair: read the image from the nearest copy, or any k fragments, compute the fragments asked for, write them to
//! their holders.
//!
//! Works window by window over all slices at once, so that memory is bounded whatever the slab's length: k windows of 8 MiB together, the ones that are made of
//! them, and as many again that are read while these are written.
//! The encoder sums what it sent and compares with what each holder says it has, so that a fragment is counted only if both agree. What was lost and is made
//! again it sums as it was made before too, and compares that with what the slab table has of it, before any holder is told that it is finished. What is only
//! moved it reads from where it is, and is as wary of it: where that does not come to what the slab table has, it is made from others.

mod again;
mod made;

use crate::cluster::{CallError, Peers};
use crate::fetch::Codecs;
use crate::limits::{ENCODES_MAX, SUMS_MAX};
use again::Others;
use bytes::Bytes;
use futures::future::{Either, join, join_all, select, try_join_all};
use made::Made;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use strongroom_core::FragmentSet;
use strongroom_env::Clock;
use strongroom_erasure::Codec;
use strongroom_format::FormatError;
use strongroom_format::checksum::{FragmentKey, fragment_block_from_plain};
use strongroom_format::cold::{self, ChecksumTable};
use strongroom_format::wire::message::{
    Encode, FinishFragment, FragmentAddress, Read, Refusal, Request, Response, Source, Sources, Target,
    WriteFragment,
};
use strongroom_types::limits::FRAGMENTS_MAX;
use strongroom_types::units::{BLOCK_LEN_BYTES, MIB};
use strongroom_types::{FragmentIndex, NodeId, Profile, ZoneId};
use tokio::sync::Semaphore;

/// Bytes of all k slices together that are worked on at once, where they are many.
const WINDOWS_LEN_BYTES: u32 = 8 * MIB as u32;
/// Of one slice at most: what a device reads about as fast as anything longer.
pub const WINDOW_LEN_BYTES_MAX: u32 = MIB as u32;
/// How long an encoding waits for others to end before it is refused.
const PLACE_PATIENCE: Duration = Duration::from_secs(20);
/// How long a holder may take for one read or piece.
const PIECE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a holder may take to make a fragment durable.
const FINISH_PATIENCE: Duration = Duration::from_secs(30);

/// Why fragments were not made. What was written of them is garbage that a later attempt writes over.
#[derive(Debug, thiserror::Error)]
enum EncodeError {
    /// No source gave a part of the image, or fewer than k a part of the fragments.
    #[error("no source gave bytes {offset_bytes}..{end_bytes}, or too few did")]
    Source {
        /// First byte.
        offset_bytes: u32,
        /// One past the last.
        end_bytes: u32,
    },
    /// A holder did not take its fragment.
    #[error(transparent)]
    Target(#[from] CallError),
    /// What a holder has is not what was sent.
    #[error("{node} {fragment}: holder has checksum table {found:08x}, sent was {expected:08x}")]
    Differs {
        /// Who.
        node: NodeId,
        /// Which.
        fragment: FragmentIndex,
        /// As sent.
        expected: u32,
        /// As the holder says.
        found: u32,
    },
    /// A fragment came out otherwise than it was when it was made before.
    #[error("{fragment} has checksum table {found:08x}, before it was lost it had {expected:08x}")]
    NotAsBefore {
        /// Which.
        fragment: FragmentIndex,
        /// As the slab table has it.
        expected: u32,
        /// As it came out.
        found: u32,
    },
    /// A table could not be made.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The request contradicts itself.
    #[error("request contradicts itself: {0}")]
    Request(&'static str),
}

impl EncodeError {
    /// What who asked is told: whether a retry may do better, or a holder will not take its fragment as things are.
    fn refusal(self) -> Refusal {
        match self {
            Self::Request(reason) => Refusal::Invalid(reason.into()),
            // Each source matched its own checksums, and one of them is wrong.
            Self::NotAsBefore { .. } => Refusal::Corrupt { offset_bytes: 0 },
            Self::Target(CallError::Refused {
                refusal: refusal @ (Refusal::DriveError | Refusal::Full | Refusal::Invalid(_)),
                ..
            }) => refusal,
            // What it finished is another thing, and stays so.
            Self::Differs { .. } => Refusal::DriveError,
            Self::Source { .. } | Self::Target(_) | Self::Format(_) => Refusal::PeersMissing,
        }
    }
}

/// Does encodings for the node.
pub struct Encoder {
    clock: Arc<dyn Clock>,
    peers: Peers,
    codecs: Arc<Codecs>,
    zones: Zones,
    places: Semaphore,
    sum_places: Semaphore,
}

/// Where nodes are.
pub struct Zones {
    /// This one.
    pub own: ZoneId,
    /// Any; `None` where that is not known.
    pub of: Arc<dyn Fn(NodeId) -> Option<ZoneId> + Send + Sync>,
}

/// A fragment on its way.
struct Making {
    target: Target,
    table: ChecksumTable,
    /// As it was before, and what that must come to.
    before: Option<(ChecksumTable, u32)>,
}

impl Making {
    fn begin(encode: &Encode, target: &Target) -> Self {
        let table = |generation| {
            ChecksumTable::new(FragmentKey { slab: encode.slab, fragment: target.fragment, generation })
        };
        let before = target.before.map(|before| (table(before.generation), before.table_crc32c));
        Self { target: *target, table: table(encode.generation), before }
    }

    /// Its next blocks go into both tables.
    fn push(&mut self, made: &Made) -> Result<(), FormatError> {
        for &plain in &made.sums {
            for table in std::iter::once(&mut self.table).chain(self.before.as_mut().map(|(table, _)| table))
            {
                let crc = fragment_block_from_plain(table.key(), table.slice_len_bytes(), plain);
                table.push_checksum(crc)?;
            }
        }
        Ok(())
    }

    fn check_as_before(&self) -> Result<(), EncodeError> {
        let Some((table, expected)) = &self.before else { return Ok(()) };
        let (found, expected) = (table.table_crc32c(), *expected);
        if found == expected {
            return Ok(());
        }
        Err(EncodeError::NotAsBefore { fragment: self.target.fragment, expected, found })
    }
}

impl Encoder {
    /// An encoder that reads and writes through `peers`.
    pub fn new(clock: Arc<dyn Clock>, peers: Peers, codecs: Arc<Codecs>, zones: Zones) -> Self {
        let (places, sum_places) = (Semaphore::new(ENCODES_MAX), Semaphore::new(SUMS_MAX));
        Self { clock, peers, codecs, zones, places, sum_places }
    }

    /// Makes the fragments; all of them are durable at their holders when this answers `Encoded`. All others that a node that came back blank makes wait for
    /// its places, in the order they came.
    pub async fn serve(&self, encode: Encode) -> Response {
        let place = pin!(self.places.acquire());
        let Either::Left((Ok(_place), _)) = select(place, self.clock.sleep(PLACE_PATIENCE)).await else {
            return Response::Refused(Refusal::Busy);
        };
        match self.encode(&encode).await {
            Ok(tables_crc32c) => Response::Encoded { tables_crc32c },
            Err(error) => {
                tracing::warn!(slab = %encode.slab, %error, "fragments were not made");
                Response::Refused(error.refusal())
            }
        }
    }

    async fn encode(&self, encode: &Encode) -> Result<Vec<u32>, EncodeError> {
        check(encode)?;
        let Sources::Moved(_) = encode.sources else { return self.make(encode, Vec::new()).await };
        let own = encode.targets.iter().map(|target| own_source(encode, target).copied()).collect();
        match self.make(encode, own).await {
            Err(error @ EncodeError::NotAsBefore { .. }) => {
                tracing::warn!(slab = %encode.slab, %error, "fragment is not what it should be where it is: it is made from others");
                self.make(encode, Vec::new()).await
            }
            made => made,
        }
    }

    /// Makes the fragments. `own` are those that are read as they are, by target: as long as each gives what it should.
    async fn make(&self, encode: &Encode, mut own: Vec<Option<Source>>) -> Result<Vec<u32>, EncodeError> {
        let codec = self.codecs.get(encode.profile);
        let slice_len = cold::slice_len(encode.image_len_bytes, encode.profile.data_count());
        let mut all: Vec<Making> =
            encode.targets.iter().map(|target| Making::begin(encode, target)).collect();
        // Of what is moved others come first: it is asked here only for what it did not give.
        let (last, mut sources): (Vec<Source>, Vec<Source>) =
            encode.sources.all().iter().copied().partition(|source| is_own(encode, source));
        sources.extend(last);
        let mut others = Others::new(sources);
        let mut position = 0;
        let mut outputs = self.window(encode, &codec, &mut own, &mut others, position).await?;
        loop {
            assert_eq!(outputs.len(), all.len(), "a window for each fragment");
            for (making, made) in all.iter_mut().zip(&outputs) {
                making.push(made)?;
            }
            let writes = all
                .iter()
                .zip(outputs)
                .map(|(making, made)| self.write_piece(encode, making, slice_len, position, made.bytes));
            let next = position + window_len(encode.profile, slice_len, position);
            if next == slice_len {
                try_join_all(writes).await?;
                break;
            }
            // The next is read while this one is written.
            let read = self.window(encode, &codec, &mut own, &mut others, next);
            let (written, read) = join(try_join_all(writes), read).await;
            written?;
            (outputs, position) = (read?, next);
        }
        all.iter().try_for_each(Making::check_as_before)?;
        try_join_all(all.iter().map(|making| self.finish(encode, making))).await
    }

    /// The targets' windows at `position`.
    async fn window(
        &self,
        encode: &Encode,
        codec: &Codec,
        own: &mut [Option<Source>],
        others: &mut Others,
        position: u32,
    ) -> Result<Vec<Made>, EncodeError> {
        let slice_len = cold::slice_len(encode.image_len_bytes, encode.profile.data_count());
        let window = window_len(encode.profile, slice_len, position);
        if let Sources::Copies(_) = encode.sources {
            let data = self.read_window(encode, slice_len, position, window).await?;
            return Ok(made::from_slices(codec, &data, &encode.targets));
        }
        let moved = self.read_own(own, position, window).await;
        let of_target = |index: usize| moved.get(index).cloned().flatten();
        let indexed = encode.targets.iter().enumerate();
        let missing: Vec<Target> =
            indexed.filter(|(index, _)| of_target(*index).is_none()).map(|(_, target)| *target).collect();
        let mut made = Vec::new();
        if !missing.is_empty() {
            made = self.again(encode, others, &missing, (position, window)).await?;
        }
        let mut made = made.into_iter();
        let next = |index| of_target(index).or_else(|| made.next());
        Ok((0..encode.targets.len()).filter_map(next).map(Made::of).collect())
    }

    /// The same window of each slice of the image, zero-padded where the image has ended.
    async fn read_window(
        &self,
        encode: &Encode,
        slice_len: u32,
        position: u32,
        window: u32,
    ) -> Result<Vec<Bytes>, EncodeError> {
        let reads = (0..u32::from(encode.profile.data_count())).map(|slice| {
            let start = (slice * slice_len + position).min(encode.image_len_bytes);
            let end = (slice * slice_len + position + window).min(encode.image_len_bytes);
            async move {
                let bytes = self.read_source(encode, start, end).await?;
                if bytes.len() == window as usize {
                    return Ok(bytes);
                }
                let mut padded = vec![0; window as usize];
                padded[..bytes.len()].copy_from_slice(&bytes);
                Ok(Bytes::from(padded))
            }
        });
        join_all(reads).await.into_iter().collect()
    }

    async fn read_source(&self, encode: &Encode, start: u32, end: u32) -> Result<Bytes, EncodeError> {
        if start == end {
            return Ok(Bytes::new());
        }
        for source in encode.sources.all() {
            if let Some(bytes) = self.read(source, start, end).await {
                return Ok(bytes);
            }
        }
        Err(EncodeError::Source { offset_bytes: start, end_bytes: end })
    }

    /// The same window of what is moved, by target. One that does not give it is not asked for later ones.
    async fn read_own(&self, own: &mut [Option<Source>], position: u32, window: u32) -> Vec<Option<Bytes>> {
        let reads = own.iter().map(|source| async move {
            match source {
                Some(source) => self.read(source, position, position + window).await,
                None => None,
            }
        });
        let read = join_all(reads).await;
        for (source, bytes) in own.iter_mut().zip(&read) {
            source.take_if(|_| bytes.is_none());
        }
        read
    }

    async fn read(&self, source: &Source, start: u32, end: u32) -> Option<Bytes> {
        let Source { node, address } = *source;
        let read = Read { address, offset_bytes: start, len_bytes: end - start, foreground: false };
        match self.peers.ask(node, &Request::Read(read), Bytes::new(), PIECE_PATIENCE).await {
            Ok((Response::Bytes, bytes)) if bytes.len() == (end - start) as usize => Some(bytes),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(slab = %address.slab, %node, %error, "source does not give its fragment");
                None
            }
        }
    }

    async fn write_piece(
        &self,
        encode: &Encode,
        making: &Making,
        slice_len_bytes: u32,
        offset_bytes: u32,
        piece: Bytes,
    ) -> Result<(), EncodeError> {
        let write = WriteFragment {
            address: address(encode, &making.target),
            profile: encode.profile,
            slice_len_bytes,
            offset_bytes,
        };
        let node = making.target.node;
        Ok(self.peers.order(node, &Request::WriteFragment(write), piece, PIECE_PATIENCE).await?)
    }

    async fn finish(&self, encode: &Encode, making: &Making) -> Result<u32, EncodeError> {
        let target = &making.target;
        let finish = FinishFragment {
            address: address(encode, target),
            image_len_bytes: encode.image_len_bytes,
            epoch: encode.epoch,
            rows: encode.rows,
            root_crc32c: encode.root_crc32c,
        };
        let request = Request::FinishFragment(finish);
        let (answer, _) = self.peers.ask(target.node, &request, Bytes::new(), FINISH_PATIENCE).await?;
        let Response::Finished { table_crc32c: found } = answer else {
            return Err(CallError::Misfit { from: target.node }.into());
        };
        let expected = making.table.table_crc32c();
        if found != expected {
            return Err(EncodeError::Differs {
                node: target.node,
                fragment: target.fragment,
                expected,
                found,
            });
        }
        Ok(found)
    }
}

/// Bytes of each slice that are worked on at `position`.
fn window_len(profile: Profile, slice_len: u32, position: u32) -> u32 {
    window_len_max(profile).min(slice_len - position)
}

/// Bytes of each slice of this profile that are worked on at once: whole blocks.
pub fn window_len_max(profile: Profile) -> u32 {
    let of_one = WINDOWS_LEN_BYTES / u32::from(profile.data_count());
    (of_one - of_one % BLOCK_LEN_BYTES).min(WINDOW_LEN_BYTES_MAX)
}

/// Where a fragment that is moved is now.
fn own_source<'a>(encode: &'a Encode, target: &Target) -> Option<&'a Source> {
    encode.sources.all().iter().find(|source| source.address.fragment == target.fragment)
}

fn is_own(encode: &Encode, source: &Source) -> bool {
    matches!(encode.sources, Sources::Moved(_))
        && encode.targets.iter().any(|target| target.fragment == source.address.fragment)
}

fn address(encode: &Encode, target: &Target) -> FragmentAddress {
    FragmentAddress {
        drive: target.drive,
        slab: encode.slab,
        fragment: target.fragment,
        generation: encode.generation,
    }
}

fn check(encode: &Encode) -> Result<(), EncodeError> {
    let count = encode.profile.fragment_count();
    let mut seen = 0u32;
    for Target { fragment, before, .. } in &encode.targets {
        if fragment.get() >= count || seen & (1 << fragment.get()) != 0 {
            return Err(EncodeError::Request("a target's fragment is unknown or named twice"));
        }
        seen |= 1 << fragment.get();
        if before.is_some_and(|before| before.generation >= encode.generation) {
            return Err(EncodeError::Request("the new generation is not after the one before"));
        }
    }
    if encode.targets.is_empty() {
        return Err(EncodeError::Request("there is nothing to make"));
    }
    if encode.image_len_bytes == 0 || encode.image_len_bytes > strongroom_types::limits::SLAB_LEN_BYTES_MAX {
        return Err(EncodeError::Request("the image is empty or longer than a slab"));
    }
    let of_slab = |source: &Source| source.address.slab == encode.slab;
    if !encode.sources.all().iter().all(of_slab) {
        return Err(EncodeError::Request("a source is of another slab"));
    }
    if encode.sources.all().iter().any(|source| source.address.generation >= encode.generation) {
        return Err(EncodeError::Request("the new generation is not after the source's"));
    }
    let mut fragments = FragmentSet::EMPTY;
    for source in encode.sources.all() {
        let fragment = source.address.fragment;
        let whole = matches!(encode.sources, Sources::Copies(_));
        if usize::from(fragment.get()) >= FRAGMENTS_MAX
            || fragments.contains(fragment)
            || !(whole || fragment.get() < count)
        {
            return Err(EncodeError::Request("a source's fragment is unknown or named twice"));
        }
        fragments.insert(fragment);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
