//! Lost fragments made again, window by window, from k others.
//!
//! What is near is read. Of a zone further away that has several of the k, one node adds up what they contribute (`strongroom_erasure::plan`) and sends a sum for
//! each fragment that is made, so that between zones goes the length of what is made, not k times that. Where that does not come about, for whatever reason, the
//! rest of the encoding reads each fragment by itself, and finds those that do not give theirs.

use super::{EncodeError, Encoder, PIECE_PATIENCE, window_len_max};
use bytes::Bytes;
use futures::future::{join, join_all};
use std::collections::BTreeMap;
use strongroom_core::FragmentSet;
use strongroom_core::encoding::is_summed;
use strongroom_erasure::{Codec, Write, add_into};
use strongroom_format::wire::message::{Encode, Refusal, Request, Response, Source, Sum, Target};
use strongroom_types::FragmentIndex;
use strongroom_types::limits::WIRE_PAYLOAD_LEN_BYTES_MAX;
use strongroom_types::units::BLOCK_LEN_BYTES;

/// The others, and how they are asked.
pub(super) struct Others {
    /// Those that give theirs first, of these the nearest first.
    sources: Vec<Source>,
    /// Whether zones are asked for sums.
    by_sums: bool,
}

/// Who of the k is read, and who is asked for a sum of what it and its neighbours contribute.
struct Parts {
    near: Vec<Source>,
    far: Vec<Vec<Source>>,
}

impl Others {
    /// These, the nearest first.
    pub(super) fn new(sources: Vec<Source>) -> Self {
        Self { sources, by_sums: true }
    }
}

impl Encoder {
    /// The windows of `missing` at `position`, of `window` bytes.
    pub(super) async fn again(
        &self,
        encode: &Encode,
        others: &mut Others,
        missing: &[Target],
        (position, window): (u32, u32),
    ) -> Result<Vec<Bytes>, EncodeError> {
        let codec = self.codecs.get(encode.profile);
        if others.by_sums {
            let chosen = others.sources.get(..codec.data_count()).unwrap_or_default();
            let parts = self.parts(chosen, missing.len());
            let too_long = missing.len() as u64 * u64::from(window) > u64::from(WIRE_PAYLOAD_LEN_BYTES_MAX);
            let made = match parts.far.is_empty() || too_long {
                true => None,
                false => self.sum_up(encode, &codec, &parts, missing, (position, window)).await,
            };
            match made {
                Some(made) => return Ok(made),
                None => others.by_sums = false,
            }
        }
        let present = self.read_fragments(&mut others.sources, &codec, position, window).await?;
        Ok(fragments_again(&codec, &present, missing, window as usize))
    }

    /// A sum takes the place of fragments where it is shorter than they are.
    fn parts(&self, chosen: &[Source], missing: usize) -> Parts {
        let mut zones: BTreeMap<_, Vec<Source>> = BTreeMap::new();
        for source in chosen {
            zones.entry((self.zones.of)(source.node)).or_default().push(*source);
        }
        let is_far = |(zone, sources): &(_, Vec<Source>)| {
            matches!(zone, Some(zone) if *zone != self.zones.own) && is_summed(sources.len(), missing)
        };
        let (far, near): (Vec<_>, Vec<_>) = zones.into_iter().partition(is_far);
        Parts {
            near: near.into_iter().flat_map(|(_, sources)| sources).collect(),
            far: far.into_iter().map(|(_, sources)| sources).collect(),
        }
    }

    /// Nothing where somebody does not give its part.
    async fn sum_up(
        &self,
        encode: &Encode,
        codec: &Codec,
        parts: &Parts,
        missing: &[Target],
        (position, window): (u32, u32),
    ) -> Option<Vec<Bytes>> {
        let all = parts.near.iter().chain(parts.far.iter().flatten());
        let present: FragmentSet = all.map(|source| source.address.fragment).collect();
        let wanted: Vec<FragmentIndex> = missing.iter().map(|target| target.fragment).collect();
        let sums = parts.far.iter().map(|sources| {
            let sum = Sum {
                profile: encode.profile,
                present: present.mask(),
                wanted: wanted.clone(),
                sources: sources.clone(),
                offset_bytes: position,
                len_bytes: window,
            };
            self.ask_sum(sum)
        });
        let reads = parts.near.iter().map(|source| self.read(source, position, position + window));
        let (read, sums) = join(join_all(reads), join_all(sums)).await;
        let read: Vec<Bytes> = read.into_iter().collect::<Option<_>>()?;
        let sums: Vec<Bytes> = sums.into_iter().collect::<Option<_>>()?;
        let mut made = contributions(codec, present, &wanted, &parts.near, &read, window as usize);
        for sum in &sums {
            for (bytes, part) in made.iter_mut().zip(sum.chunks_exact(window as usize)) {
                add_into(bytes, part).expect("a window each");
            }
        }
        Some(made.into_iter().map(Bytes::from).collect())
    }

    /// Asks the first of its sources for the sum.
    async fn ask_sum(&self, sum: Sum) -> Option<Bytes> {
        let (node, slab) = sum.sources.first().map(|source| (source.node, source.address.slab))?;
        let expected = sum.wanted.len() * sum.len_bytes as usize;
        match self.peers.ask(node, &Request::Sum(sum), Bytes::new(), PIECE_PATIENCE).await {
            Ok((Response::Bytes, bytes)) if bytes.len() == expected => Some(bytes),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%slab, %node, %error, "no sum from there: fragments are read one by one");
                None
            }
        }
    }

    /// Adds up for an encoder of another zone: a sum for each fragment that it makes, one behind the other.
    pub async fn sum(&self, sum: &Sum) -> (Response, Bytes) {
        let refused = |refusal| (Response::Refused(refusal), Bytes::new());
        if let Err(reason) = check_sum(sum) {
            return refused(Refusal::Invalid(reason.into()));
        }
        let Ok(_place) = self.sum_places.try_acquire() else { return refused(Refusal::Busy) };
        let (from, to) = (sum.offset_bytes, sum.offset_bytes + sum.len_bytes);
        let read = join_all(sum.sources.iter().map(|source| self.read(source, from, to))).await;
        let Some(read) = read.into_iter().collect::<Option<Vec<Bytes>>>() else {
            return refused(Refusal::PeersMissing);
        };
        let codec = self.codecs.get(sum.profile);
        let present = FragmentSet::from_mask(sum.present);
        let sums = contributions(&codec, present, &sum.wanted, &sum.sources, &read, sum.len_bytes as usize);
        (Response::Bytes, Bytes::from(sums.concat()))
    }

    /// The same window of any k fragments, each with its index. Sources that do not give theirs go to the end, for the windows to come.
    async fn read_fragments(
        &self,
        sources: &mut Vec<Source>,
        codec: &Codec,
        position: u32,
        window: u32,
    ) -> Result<Vec<(usize, Bytes)>, EncodeError> {
        let needed = codec.data_count();
        let mut present: Vec<(usize, Bytes)> = Vec::with_capacity(needed);
        let (mut giving, mut failing) = (Vec::with_capacity(needed), Vec::new());
        let mut left = std::mem::take(sources).into_iter();
        while present.len() < needed {
            let asked: Vec<Source> = left.by_ref().take(needed - present.len()).collect();
            if asked.is_empty() {
                return Err(EncodeError::Source { offset_bytes: position, end_bytes: position + window });
            }
            let reads = asked.iter().map(|source| self.read(source, position, position + window));
            for (source, answer) in asked.iter().zip(join_all(reads).await) {
                match answer {
                    Some(bytes) => {
                        present.push((usize::from(source.address.fragment.get()), bytes));
                        giving.push(*source);
                    }
                    None => failing.push(*source),
                }
            }
        }
        sources.extend(giving.into_iter().chain(left).chain(failing));
        Ok(present)
    }
}

/// What these sources, of the k in `present`, contribute to each of `wanted`.
fn contributions(
    codec: &Codec,
    present: FragmentSet,
    wanted: &[FragmentIndex],
    sources: &[Source],
    read: &[Bytes],
    window: usize,
) -> Vec<Vec<u8>> {
    let index = |fragment: FragmentIndex| usize::from(fragment.get());
    let present: Vec<usize> = present.iter().map(index).collect();
    let wanted: Vec<usize> = wanted.iter().copied().map(index).collect();
    let plan = codec.plan(&present, &wanted).expect("k fragments, and others, of the profile");
    let inputs: Vec<(usize, &[u8])> = sources
        .iter()
        .zip(read)
        .map(|(source, bytes)| (index(source.address.fragment), &bytes[..]))
        .collect();
    let mut sums = vec![vec![0; window]; wanted.len()];
    let mut outputs: Vec<(usize, &mut [u8])> =
        wanted.iter().copied().zip(sums.iter_mut().map(|sum| &mut sum[..])).collect();
    plan.partial_sum(&inputs, &mut outputs, Write::Replace).expect("windows of one length, of the plan's");
    sums
}

fn check_sum(sum: &Sum) -> Result<(), &'static str> {
    let (count, present) = (sum.profile.fragment_count(), FragmentSet::from_mask(sum.present));
    if present.len() != u32::from(sum.profile.data_count()) || present.iter().any(|one| one.get() >= count) {
        return Err("a sum is over k fragments of the profile");
    }
    let mut wanted = FragmentSet::EMPTY;
    for fragment in &sum.wanted {
        if fragment.get() >= count || wanted.contains(*fragment) {
            return Err("a fragment that is made is unknown or named twice");
        }
        wanted.insert(*fragment);
    }
    let mut read = FragmentSet::EMPTY;
    for Source { address, .. } in &sum.sources {
        if !present.contains(address.fragment) || read.contains(address.fragment) {
            return Err("a source is none of the k, or named twice");
        }
        read.insert(address.fragment);
    }
    if wanted.is_empty() || read.is_empty() {
        return Err("there is nothing to add up");
    }
    let is_whole = |bytes: u32| bytes.is_multiple_of(BLOCK_LEN_BYTES);
    let ends = sum.offset_bytes.checked_add(sum.len_bytes);
    if sum.wanted.len() as u64 * u64::from(sum.len_bytes) > u64::from(WIRE_PAYLOAD_LEN_BYTES_MAX) {
        return Err("the sums are longer than an answer may be");
    }
    let is_window = (1..=window_len_max(sum.profile)).contains(&sum.len_bytes);
    match is_window && is_whole(sum.offset_bytes) && is_whole(sum.len_bytes) && ends.is_some() {
        true => Ok(()),
        false => Err("expected whole blocks, at most a window of them"),
    }
}

/// The targets' windows, from the windows of any k fragments.
pub(super) fn fragments_again(
    codec: &Codec,
    present: &[(usize, Bytes)],
    targets: &[Target],
    window: usize,
) -> Vec<Bytes> {
    let inputs: Vec<(usize, &[u8])> = present.iter().map(|(index, bytes)| (*index, &bytes[..])).collect();
    let mut made: Vec<(usize, Vec<u8>)> =
        targets.iter().map(|target| (usize::from(target.fragment.get()), vec![0; window])).collect();
    let mut wanted: Vec<(usize, &mut [u8])> =
        made.iter_mut().map(|(index, bytes)| (*index, &mut bytes[..])).collect();
    codec
        .reconstruct_some(&inputs, &mut wanted)
        .expect("k windows of one length, targets checked to be distinct");
    made.into_iter().map(|(_, bytes)| Bytes::from(bytes)).collect()
}
