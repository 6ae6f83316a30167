//! One zone's share of a conversion: read the image from the nearest copy, compute the fragments asked for, write them to their holders.
//!
//! Works window by window over all slices at once, so that memory is bounded whatever the slab's length: k + m windows of 256 KiB.
//! The encoder sums what it sent and compares with what each holder says it has, so that a fragment is counted only if both agree.

use crate::cluster::{CallError, Peers};
use crate::fetch::Codecs;
use crate::limits::ENCODES_MAX;
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use std::sync::Arc;
use std::time::Duration;
use strongroom_erasure::Codec;
use strongroom_format::FormatError;
use strongroom_format::checksum::FragmentKey;
use strongroom_format::cold::{self, ChecksumTable};
use strongroom_format::wire::message::{
    Encode, FinishFragment, FragmentAddress, Read, Refusal, Request, Response, WriteFragment,
};
use strongroom_types::{DriveId, FragmentIndex, NodeId};
use tokio::sync::Semaphore;

/// Bytes of each slice that are worked on at once.
const WINDOW_LEN_BYTES: u32 = 256 * 1024;
/// How long a holder may take for one read or piece.
const PIECE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a holder may take to make a fragment durable.
const FINISH_PATIENCE: Duration = Duration::from_secs(30);

/// Why fragments were not made. What was written of them is garbage that a later attempt writes over.
#[derive(Debug, thiserror::Error)]
enum EncodeError {
    /// No source gave a part of the image.
    #[error("no source gave image bytes {offset_bytes}..{end_bytes}")]
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
    peers: Peers,
    codecs: Arc<Codecs>,
    places: Arc<Semaphore>,
}

/// A fragment on its way.
struct Target {
    fragment: FragmentIndex,
    node: NodeId,
    drive: DriveId,
    table: ChecksumTable,
}

impl Encoder {
    /// An encoder that reads and writes through `peers`.
    pub fn new(peers: Peers, codecs: Arc<Codecs>) -> Self {
        Self { peers, codecs, places: Arc::new(Semaphore::new(ENCODES_MAX)) }
    }

    /// Makes the fragments; all of them are durable at their holders when this answers `Encoded`.
    pub async fn serve(&self, encode: Encode) -> Response {
        let Ok(_place) = self.places.try_acquire() else { return Response::Refused(Refusal::Busy) };
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
        let codec = self.codecs.get(encode.profile);
        let slice_len = cold::slice_len(encode.image_len_bytes, encode.profile.data_count());
        let mut targets: Vec<Target> = encode
            .targets
            .iter()
            .map(|(fragment, node, drive)| {
                let key =
                    FragmentKey { slab: encode.slab, fragment: *fragment, generation: encode.generation };
                Target { fragment: *fragment, node: *node, drive: *drive, table: ChecksumTable::new(key) }
            })
            .collect();
        let mut position = 0;
        while position < slice_len {
            let window = WINDOW_LEN_BYTES.min(slice_len - position);
            let data = self.read_window(encode, slice_len, position, window).await?;
            let outputs = fragments_of(&codec, &data, &targets, window as usize);
            for (target, output) in targets.iter_mut().zip(&outputs) {
                target.table.push_blocks(output)?;
            }
            let writes = targets
                .iter()
                .zip(outputs)
                .map(|(target, output)| self.write_piece(encode, target, slice_len, position, output));
            try_join_all(writes).await?;
            position += window;
        }
        try_join_all(targets.iter().map(|target| self.finish(encode, target))).await
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
        for (node, drive, fragment) in &encode.sources {
            let address = FragmentAddress {
                drive: *drive,
                slab: encode.slab,
                fragment: *fragment,
                generation: encode.source_generation,
            };
            let read = Read { address, offset_bytes: start, len_bytes: end - start, foreground: false };
            match self.peers.ask(*node, &Request::Read(read), Bytes::new(), PIECE_PATIENCE).await {
                Ok((Response::Bytes, bytes)) if bytes.len() == (end - start) as usize => return Ok(bytes),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(slab = %encode.slab, %node, %error, "source does not give its copy")
                }
            }
        }
        Err(EncodeError::Source { offset_bytes: start, end_bytes: end })
    }

    async fn write_piece(
        &self,
        encode: &Encode,
        target: &Target,
        slice_len_bytes: u32,
        offset_bytes: u32,
        piece: Bytes,
    ) -> Result<(), EncodeError> {
        let write = WriteFragment {
            address: address(encode, target),
            profile: encode.profile,
            slice_len_bytes,
            offset_bytes,
        };
        Ok(self.peers.order(target.node, &Request::WriteFragment(write), piece, PIECE_PATIENCE).await?)
    }

    async fn finish(&self, encode: &Encode, target: &Target) -> Result<u32, EncodeError> {
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
        let expected = target.table.table_crc32c();
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
    for (fragment, _, _) in &encode.targets {
        if fragment.get() >= count || seen & (1 << fragment.get()) != 0 {
            return Err(EncodeError::Request("a target's fragment is unknown or named twice"));
        }
        seen |= 1 << fragment.get();
    }
    if encode.image_len_bytes == 0 || encode.image_len_bytes > strongroom_types::limits::SLAB_LEN_BYTES_MAX {
        return Err(EncodeError::Request("the image is empty or longer than a slab"));
    }
    if encode.generation <= encode.source_generation {
        return Err(EncodeError::Request("the new generation is not after the source's"));
    }
    Ok(())
}

/// The targets' windows, from the windows of the k slices: slices as they are, parity computed.
fn fragments_of(codec: &Codec, data: &[Bytes], targets: &[Target], window: usize) -> Vec<Bytes> {
    let data_count = codec.data_count();
    let inputs: Vec<&[u8]> = data.iter().map(|bytes| &bytes[..]).collect();
    let mut parity: Vec<(usize, Vec<u8>)> = targets
        .iter()
        .map(|target| usize::from(target.fragment.get()))
        .filter(|index| *index >= data_count)
        .map(|index| (index, vec![0; window]))
        .collect();
    let mut wanted: Vec<(usize, &mut [u8])> =
        parity.iter_mut().map(|(index, bytes)| (*index, &mut bytes[..])).collect();
    codec.encode_some(&inputs, &mut wanted).expect("k windows of one length, targets checked to be distinct");
    let mut parity = parity.into_iter();
    targets
        .iter()
        .map(|target| match data.get(usize::from(target.fragment.get())) {
            Some(slice) => slice.clone(),
            None => Bytes::from(parity.next().expect("one for each target that is parity").1),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::EncodeError;
    use crate::cluster::CallError;
    use strongroom_format::wire::message::Refusal;
    use strongroom_types::{FragmentIndex, NodeId};

    #[test]
    fn who_asked_is_told_whether_a_holder_would_not_or_could_not() {
        let from = NodeId::new(1);
        let target = |refusal| EncodeError::Target(CallError::Refused { from, refusal });
        for refusal in [Refusal::DriveError, Refusal::Full, Refusal::Invalid("slice".into())] {
            assert_eq!(target(refusal.clone()).refusal(), refusal);
        }
        for refusal in [Refusal::Busy, Refusal::NoSuchDrive, Refusal::Beyond { len_bytes: 0 }] {
            assert_eq!(target(refusal).refusal(), Refusal::PeersMissing);
        }
        assert_eq!(EncodeError::Target(CallError::Misfit { from }).refusal(), Refusal::PeersMissing);
        let source = EncodeError::Source { offset_bytes: 0, end_bytes: 1 };
        assert_eq!(source.refusal(), Refusal::PeersMissing);
        let differs =
            EncodeError::Differs { node: from, fragment: FragmentIndex::new(0), expected: 1, found: 2 };
        assert_eq!(differs.refusal(), Refusal::DriveError, "what is finished is not made again");
        assert!(matches!(EncodeError::Request("twice").refusal(), Refusal::Invalid(_)));
    }
}
