//! Ranges of a slab's image, from copies or from slices, with every way out when a holder fails.

use super::{Codecs, FetchError};
use crate::alarms::Alarms;
use crate::cluster::{CallError, Monitor, Peers};
use crate::slabs::Slabs;
use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use strongroom_core::FragmentSet;
use strongroom_format::cold;
use strongroom_format::wire::message::{FragmentAddress, Read, Refusal, Request, Response};
use strongroom_types::{ClusterView, FragmentIndex, Health, NodeId, SlabId, SlabRecord, SlabState};

/// How long a holder may take before another one is asked.
const READ_PATIENCE: Duration = Duration::from_millis(1500);
/// Times that the slab's record is read afresh before a read is given up: layouts change, but not that fast.
const ROUNDS: usize = 3;

/// Why one way to the bytes did not work.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A holder did not give its part.
    #[error("{node} {fragment}: {source}")]
    Holder {
        /// Who.
        node: NodeId,
        /// Which fragment.
        fragment: FragmentIndex,
        /// Why.
        #[source]
        source: CallError,
    },
    /// The slab was sealed shorter than what is asked for.
    #[error("the sealed image ends at byte {len_bytes}")]
    Outside {
        /// Bytes of the image.
        len_bytes: u32,
    },
    /// Fewer than k holders can be asked.
    #[error("{have} of {needed} fragments can be asked for")]
    TooFew {
        /// Can be asked.
        have: usize,
        /// Needed.
        needed: usize,
    },
    /// The slab's record contradicts itself.
    #[error("the record names no holder of {fragment}")]
    NoSuchFragment {
        /// Which fragment.
        fragment: FragmentIndex,
    },
    /// The holder's own checksums held, the object's did not.
    #[error("bytes do not match the object's checksum")]
    Mismatch,
}

/// Reads ranges of images.
#[derive(Clone)]
pub struct ImageReader {
    parts: Arc<Parts>,
    foreground: bool,
}

struct Parts {
    own: NodeId,
    peers: Peers,
    monitor: Arc<Monitor>,
    slabs: Arc<Slabs>,
    codecs: Arc<Codecs>,
    alarms: Arc<Alarms>,
}

impl ImageReader {
    /// Reads for node `own`.
    pub fn new(
        own: NodeId,
        peers: Peers,
        monitor: Arc<Monitor>,
        slabs: Arc<Slabs>,
        codecs: Arc<Codecs>,
        alarms: Arc<Alarms>,
    ) -> Self {
        let parts = Arc::new(Parts { own, peers, monitor, slabs, codecs, alarms });
        Self { parts, foreground: true }
    }

    /// One that drives serve after those whom somebody waits for.
    pub fn in_background(&self) -> Self {
        Self { parts: self.parts.clone(), foreground: false }
    }

    /// Reads `range` of the image of `slab` and gives what `take` makes of it. Bytes that `take` refuses are asked for elsewhere.
    ///
    /// # Errors
    /// See [`FetchError`]: no way to the bytes worked.
    pub async fn read<T>(
        &self,
        slab: SlabId,
        range: Range<u32>,
        take: impl Fn(&Bytes) -> Option<T>,
    ) -> Result<T, FetchError> {
        let mut faults = Vec::new();
        let mut record = self.parts.slabs.get(slab).await?;
        for _ in 0..ROUNDS {
            let Some(present) = &record else { break };
            if present.state == SlabState::Dead {
                return Err(FetchError::Gone { slab });
            }
            faults.clear();
            let ways = if present.profile.is_copies() {
                self.read_copies(present, &range, &take, &mut faults).await
            } else {
                self.read_slices(present, &range, &take, &mut faults).await
            };
            if let Some(taken) = ways {
                if faults.iter().any(is_outdated) {
                    // Elsewhere by now: else this way round would be gone again and again. A table that does not answer spoils nothing.
                    let _ = self.parts.slabs.refresh(slab).await;
                }
                return Ok(taken);
            }
            let fresh = self.parts.slabs.refresh(slab).await?;
            if fresh == record && !faults.iter().any(is_passing) {
                break;
            }
            record = fresh;
        }
        let gone = match &record {
            Some(record) => record.state == SlabState::Dead,
            None => self.parts.slabs.is_forgotten(slab).await?,
        };
        if gone {
            return Err(FetchError::Gone { slab });
        }
        let verdict = verdict(slab, range.start, record.is_some(), &faults);
        if let FetchError::Damaged { .. } = &verdict {
            // Once a slab, however many objects in it are read: there is room for few alarms.
            self.parts.alarms.damage(&format!("{slab}: acknowledged bytes cannot be read, see the log"));
        }
        Err(verdict)
    }

    async fn read_copies<T>(
        &self,
        record: &SlabRecord,
        range: &Range<u32>,
        take: &impl Fn(&Bytes) -> Option<T>,
        faults: &mut Vec<ImageError>,
    ) -> Option<T> {
        let view = self.parts.monitor.view();
        for fragment in self.order(record, &view) {
            match self.read_fragment(record, fragment, range.clone()).await {
                Ok(bytes) => match take(&bytes) {
                    Some(taken) => return Some(taken),
                    None => faults.push(ImageError::Mismatch),
                },
                Err(fault) => faults.push(fault),
            }
        }
        None
    }

    async fn read_slices<T>(
        &self,
        record: &SlabRecord,
        range: &Range<u32>,
        take: &impl Fn(&Bytes) -> Option<T>,
        faults: &mut Vec<ImageError>,
    ) -> Option<T> {
        let sealed = record.sealed()?;
        if range.end > sealed.len_bytes {
            faults.push(ImageError::Outside { len_bytes: sealed.len_bytes });
            return None;
        }
        let pieces = slice_pieces(sealed.len_bytes, record.profile.data_count(), range);
        let view = self.parts.monitor.view();
        let order = self.order(record, &view);
        // First the slices that hold the range; where one cannot be read, or what came is wrong, the others in its place.
        let mut avoid: Vec<FragmentIndex> = Vec::new();
        for _ in 0..usize::from(record.profile.parity_count()) + 1 {
            let answers =
                join_all(pieces.iter().map(|piece| self.read_piece(record, piece, &order, &avoid))).await;
            let mut bytes = BytesMut::with_capacity(range.len());
            let mut failed = false;
            for answer in answers {
                match answer {
                    Ok((piece, fault)) => {
                        bytes.extend_from_slice(&piece);
                        faults.extend(fault);
                    }
                    Err(fault) => {
                        failed = true;
                        faults.push(fault);
                    }
                }
            }
            if failed {
                return None;
            }
            if let Some(taken) = take(&bytes.freeze()) {
                return Some(taken);
            }
            faults.push(ImageError::Mismatch);
            // Some slice lies although its own checksums hold: try without each of the holding slices in turn.
            let next =
                pieces.iter().map(|piece| piece.fragment).find(|fragment| !avoid.contains(fragment))?;
            avoid = vec![next];
        }
        None
    }

    /// One piece of a slice: from its holder, or from k others; then with what went wrong on the way.
    async fn read_piece(
        &self,
        record: &SlabRecord,
        piece: &SlicePiece,
        order: &[FragmentIndex],
        avoid: &[FragmentIndex],
    ) -> Result<(Bytes, Option<ImageError>), ImageError> {
        let mut fault = None;
        let mut direct =
            Some(piece.fragment).filter(|fragment| order.contains(fragment) && !avoid.contains(fragment));
        if let Some(fragment) = direct.take_if(|fragment| self.is_there(record, *fragment)) {
            match self.read_fragment(record, fragment, piece.positions.clone()).await {
                Ok(bytes) => return Ok((bytes, None)),
                Err(found) => fault = Some(found),
            }
        }
        let needed = usize::from(record.profile.data_count());
        let mut others =
            order.iter().copied().filter(|other| *other != piece.fragment && !avoid.contains(other));
        let mut present: Vec<(usize, Bytes)> = Vec::new();
        while present.len() < needed {
            let asked: Vec<FragmentIndex> = others.by_ref().take(needed - present.len()).collect();
            if asked.is_empty() {
                // Where all else fails it may be there after all.
                let Some(fragment) = direct else {
                    return Err(fault.unwrap_or(ImageError::TooFew { have: present.len(), needed }));
                };
                let bytes = self.read_fragment(record, fragment, piece.positions.clone()).await?;
                return Ok((bytes, fault));
            }
            let reads = asked.iter().map(|other| self.read_fragment(record, *other, piece.positions.clone()));
            for (other, answer) in asked.iter().zip(join_all(reads).await) {
                match answer {
                    Ok(bytes) => present.push((usize::from(other.get()), bytes)),
                    Err(found) => fault = fault.or(Some(found)),
                }
            }
        }
        let mut decoded = BytesMut::zeroed(piece.positions.len());
        let sources: Vec<(usize, &[u8])> =
            present.iter().map(|(index, bytes)| (*index, &bytes[..])).collect();
        let wanted = usize::from(piece.fragment.get());
        self.parts
            .codecs
            .get(record.profile)
            .reconstruct_some(&sources, &mut [(wanted, &mut decoded)])
            .expect("k distinct fragments of one length");
        Ok((decoded.freeze(), fault))
    }

    async fn read_fragment(
        &self,
        record: &SlabRecord,
        fragment: FragmentIndex,
        positions: Range<u32>,
    ) -> Result<Bytes, ImageError> {
        let mut places = FragmentAddress::all_of(record);
        let place = places.find(|(_, address)| address.fragment == fragment);
        let (node, address) = place.ok_or(ImageError::NoSuchFragment { fragment })?;
        let len_bytes = positions.end - positions.start;
        let request = Request::Read(Read {
            address,
            offset_bytes: positions.start,
            len_bytes,
            foreground: self.foreground,
        });
        let fault = |source| ImageError::Holder { node, fragment, source };
        match self.parts.peers.ask(node, &request, Bytes::new(), READ_PATIENCE).await {
            Ok((Response::Bytes, bytes)) if bytes.len() == len_bytes as usize => Ok(bytes),
            Ok(_) => Err(fault(CallError::Misfit { from: node })),
            Err(error) => Err(fault(error)),
        }
    }

    /// Whether it is worth asking before all others: its node answers, and it is not known to be missing.
    fn is_there(&self, record: &SlabRecord, fragment: FragmentIndex) -> bool {
        let missing = FragmentSet::from_mask(record.sealed().map_or(0, |sealed| sealed.missing));
        let view = self.parts.monitor.view();
        let node = record.holders.get(usize::from(fragment.get())).and_then(|holder| view.node(holder.node));
        !missing.contains(fragment) && node.is_some_and(|node| node.health == Health::Up)
    }

    /// Fragments in the order they are asked: own node, own zone, others, those that do not answer, and last those that are known not to be whole:
    /// where everything else fails, what is wanted may still be in them.
    fn order(&self, record: &SlabRecord, view: &ClusterView) -> Vec<FragmentIndex> {
        let missing = record.sealed().map_or(0, |sealed| sealed.missing);
        let own_zone = view.zone_of(self.parts.own);
        let mut order: Vec<(u8, FragmentIndex)> = (0u8..)
            .zip(&record.holders)
            .map(|(index, holder)| {
                let node = view.node(holder.node);
                let rank = match node {
                    _ if missing & (1 << index) != 0 => 5,
                    _ if holder.node == self.parts.own => 0,
                    Some(node) if node.health == Health::Down => 3,
                    Some(node) if Some(node.zone) == own_zone => 1,
                    Some(_) => 2,
                    None => 4,
                };
                (rank, FragmentIndex::new(index))
            })
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, fragment)| fragment).collect()
    }
}

/// A part of an image range within one slice.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SlicePiece {
    fragment: FragmentIndex,
    positions: Range<u32>,
}

fn slice_pieces(image_len_bytes: u32, data_count: u8, range: &Range<u32>) -> Vec<SlicePiece> {
    let slice = cold::slice_len(image_len_bytes, data_count);
    let mut pieces = Vec::new();
    let mut at = range.start;
    while at < range.end && slice > 0 {
        let index = at / slice;
        let position = at % slice;
        let len = (slice - position).min(range.end - at);
        let fragment = FragmentIndex::new(u8::try_from(index).unwrap_or(u8::MAX));
        pieces.push(SlicePiece { fragment, positions: position..position + len });
        at += len;
    }
    pieces
}

/// Whether the holder is not the one any more that the record says.
fn is_outdated(fault: &ImageError) -> bool {
    let ImageError::Holder { source: CallError::Refused { refusal, .. }, .. } = fault else { return false };
    matches!(refusal, Refusal::NotHere | Refusal::NoSuchDrive | Refusal::OtherGeneration { .. })
}

/// Whether the same question may find an answer a moment later, or of a newer record.
fn is_passing(fault: &ImageError) -> bool {
    match fault {
        ImageError::Holder { source: CallError::Refused { refusal, .. }, .. } => match refusal {
            Refusal::Busy | Refusal::NotHere | Refusal::Beyond { .. } | Refusal::OtherGeneration { .. } => {
                true
            }
            Refusal::NoSuchDrive
            | Refusal::Corrupt { .. }
            | Refusal::DriveError
            | Refusal::Fenced { .. }
            | Refusal::OutOfOrder { .. }
            | Refusal::Full
            | Refusal::Invalid(_)
            | Refusal::PeersMissing => false,
        },
        ImageError::Holder { source: CallError::Net(_), .. } => true,
        ImageError::Holder { source: CallError::Misfit { .. } | CallError::Format(_), .. } => false,
        ImageError::Outside { .. }
        | ImageError::TooFew { .. }
        | ImageError::NoSuchFragment { .. }
        | ImageError::Mismatch => false,
    }
}

/// Damaged only where every fault is the word of a holder that has the bytes and finds them wrong, or the slab table's that there are none; silence or
/// a failing drive may pass.
fn verdict(slab: SlabId, offset_bytes: u32, known: bool, faults: &[ImageError]) -> FetchError {
    let damaged = |fault: &ImageError| {
        matches!(
            fault,
            ImageError::Mismatch
                | ImageError::Outside { .. }
                | ImageError::Holder {
                    source: CallError::Refused { refusal: Refusal::Corrupt { .. }, .. },
                    ..
                }
        )
    };
    let reason = match faults {
        [] if known => String::from("nobody was asked"),
        [] => String::from("the slab is not in the slab table"),
        faults => faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    };
    if faults.iter().all(damaged) {
        FetchError::Damaged { slab, offset_bytes, reason }
    } else {
        FetchError::Unavailable { slab, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_range_over_slices_in_order() {
        // An image of 5 blocks in 2 slices: 3 blocks each, the last one padded.
        let piece = |index, positions| SlicePiece { fragment: FragmentIndex::new(index), positions };
        assert_eq!(slice_pieces(20_480, 2, &(0..10)), [piece(0, 0..10)]);
        assert_eq!(slice_pieces(20_480, 2, &(12_000..13_000)), [piece(0, 12_000..12_288), piece(1, 0..712)]);
        assert_eq!(slice_pieces(20_480, 2, &(12_288..20_480)), [piece(1, 0..8_192)]);
        assert_eq!(slice_pieces(20_480, 2, &(5..5)), []);
    }
}
