//! Slices and parity compared, of a sample: the same few blocks of all fragments of a cold slab.
//!
//! A scrub verifies each fragment against its own checksums. What was computed wrongly, by a node with bad memory, has checksums that match; it is found only by
//! whoever holds fragments against each other. Each cold slab of the groups that this node leads gets its turn once a period (a month), at a place that is drawn.
//! Nothing is mended here: a fragment that is made again must come to the checksum that the slab table has, so people are told.

use crate::alarms::Alarms;
use crate::cluster::Peers;
use crate::config::BackgroundPolicy;
use crate::fetch::Codecs;
use crate::jobs::Job;
use crate::limits::SLABS_PAGE;
use crate::slabs::Slabs;
use crate::store::Found;
use bytes::Bytes;
use futures::future::join_all;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use strongroom_env::Env;
use strongroom_erasure::Codec;
use strongroom_format::cold;
use strongroom_format::wire::message::{FragmentAddress, Read, Request, Response};
use strongroom_meta::{Meta, MetaError};
use strongroom_types::units::BLOCK_LEN_BYTES;
use strongroom_types::{FragmentIndex, GroupId, NodeId, SlabId, SlabRecord};

/// Bytes of each fragment that are compared.
const SAMPLE_LEN_BYTES: u32 = 64 * 1024;
/// Between two samples at least: some megabytes a second with the widest profile.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Before tables are looked at again that did not answer, or had nothing cold.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long a holder may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the sampler works with.
pub struct ParityParts {
    /// The world.
    pub env: Env,
    /// Says which groups this node leads.
    pub meta: Arc<Meta>,
    /// The slab table.
    pub slabs: Arc<Slabs>,
    /// Who has fragments.
    pub peers: Peers,
    /// What they are compared with.
    pub codecs: Arc<Codecs>,
    /// Data groups of the cluster.
    pub groups: u16,
    /// Nothing is looked at before it is set.
    pub found: Found,
    /// How often each slab gets its turn.
    pub background: BackgroundPolicy,
    /// Where people are told.
    pub alarms: Arc<Alarms>,
    /// What an operator pauses it by.
    pub job: Arc<Job>,
}

/// Compares samples.
pub struct ParitySampler {
    parts: ParityParts,
}

/// What fragments of one slab say of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// No more than k are there: there is nothing to hold them against.
    TooFew,
    /// They agree.
    Agree,
    /// All others agree.
    Wrong(FragmentIndex),
    /// They do not agree, and which of them are wrong cannot be told.
    Unclear,
}

/// Goes through the cold slabs of the groups that this node leads.
#[derive(Default)]
struct Walk {
    /// The group that it is at; none before the first.
    group: Option<GroupId>,
    /// Records of it that were not come to yet.
    page: VecDeque<SlabRecord>,
    /// Where its next page begins; none once there are no more.
    next: Option<Next>,
}

/// Where a page begins.
struct Next {
    after: Option<SlabId>,
}

impl Walk {
    async fn next(&mut self, parts: &ParityParts) -> Result<Option<SlabRecord>, MetaError> {
        loop {
            if let Some(record) = self.page.pop_front() {
                return Ok(Some(record));
            }
            match (self.group, self.next.take()) {
                (Some(group), Some(Next { after })) => {
                    let page = parts.slabs.page(group, after, SLABS_PAGE).await?;
                    let last = page.last().filter(|_| page.len() == SLABS_PAGE as usize);
                    self.next = last.map(|last| Next { after: Some(last.slab) });
                    let is_cold =
                        |record: &SlabRecord| !record.profile.is_copies() && record.sealed().is_some();
                    self.page.extend(page.into_iter().filter(is_cold));
                }
                (before, _) => {
                    let groups = if parts.found.is_set() { parts.groups } else { 0 };
                    let mut behind =
                        (0..groups).map(GroupId::new).filter(|next| before.is_none_or(|group| *next > group));
                    let Some(group) = behind.find(|group| parts.meta.leads(*group)) else { return Ok(None) };
                    (self.group, self.next) = (Some(group), Some(Next { after: None }));
                }
            }
        }
    }
}

impl ParitySampler {
    /// Starts the first round.
    pub fn start(parts: ParityParts) {
        let env = parts.env.clone();
        let sampler = Self { parts };
        let task = async move {
            loop {
                if let Err(error) = sampler.round().await {
                    tracing::debug!(%error, "slab table cannot be looked at for samples now");
                }
                sampler.parts.job.wait_for("cold slabs of groups that this node leads");
                sampler.parts.env.clock.sleep(LOOK_EVERY).await;
            }
        };
        env.spawn.spawn("parity", Box::pin(task));
    }

    /// Every cold slab once. It begins at one that is drawn: nodes that are often started again come to all of them too.
    async fn round(&self) -> Result<(), MetaError> {
        let (mut count, mut walk) = (0, Walk::default());
        while walk.next(&self.parts).await?.is_some() {
            count += 1;
        }
        if count == 0 {
            return Ok(());
        }
        let first = self.parts.env.rng.u64() % count;
        let each = self.parts.background.parity_period / u32::try_from(count).unwrap_or(u32::MAX);
        for turns in [first..u64::MAX, 0..first] {
            let mut walk = Walk::default();
            let mut place = 0;
            while place < turns.end
                && let Some(record) = walk.next(&self.parts).await?
            {
                if turns.contains(&place) {
                    self.parts.job.wait_while_held().await;
                    self.sample(&record).await;
                    self.parts.job.wait_for("the next sample, at its time");
                    self.parts.env.clock.sleep(each.max(PAUSE_MIN)).await;
                }
                place += 1;
            }
        }
        Ok(())
    }

    async fn sample(&self, record: &SlabRecord) {
        let ParityParts { job, alarms, env, .. } = &self.parts;
        job.go_on();
        let Some(sealed) = record.sealed() else { return };
        let slice_len_bytes = cold::slice_len(sealed.len_bytes, record.profile.data_count());
        let blocks = u64::from(slice_len_bytes / BLOCK_LEN_BYTES);
        let Some(place) = env.rng.u64().checked_rem(blocks) else { return };
        let offset_bytes = u32::try_from(place).expect("below a length") * BLOCK_LEN_BYTES;
        let len_bytes = SAMPLE_LEN_BYTES.min(slice_len_bytes - offset_bytes);
        let (slab, topic) = (record.slab, format!("parity of {}", record.slab));
        let mut verdict = self.verdict(record, offset_bytes, len_bytes).await;
        if matches!(verdict, Verdict::Wrong(_) | Verdict::Unclear) {
            // What was read from different layouts may differ: once more, from what is there now.
            match self.parts.slabs.refresh(slab).await {
                Ok(Some(now)) if now.sealed().is_some() && !now.profile.is_copies() => {
                    verdict = self.verdict(&now, offset_bytes, len_bytes).await;
                }
                Ok(_) | Err(_) => return,
            }
        }
        let what = match verdict {
            Verdict::TooFew => return job.count("samples without enough fragments", 1),
            Verdict::Agree => {
                alarms.over(&topic);
                job.count("bytes compared", u64::from(len_bytes) * record.holders.len() as u64);
                return job.advance(1);
            }
            Verdict::Wrong(fragment) => match record.holders.get(usize::from(fragment.get())) {
                Some(holder) => format!("{fragment} on {} is not what the others give", holder.node),
                None => format!("{fragment} is not what the others give"),
            },
            Verdict::Unclear => String::from("which of them is wrong cannot be told"),
        };
        job.advance(1);
        job.count("slabs that disagree", 1);
        let words = format!(
            "{slab}: fragments do not agree at {offset_bytes}, though the checksums of each hold: {what}. A node has computed wrongly; test the memory of those that made them"
        );
        alarms.lasting(topic, words);
    }

    async fn verdict(&self, record: &SlabRecord, offset_bytes: u32, len_bytes: u32) -> Verdict {
        let reads = FragmentAddress::all_of(record).map(|(node, address)| async move {
            let bytes = self.read(node, address, offset_bytes, len_bytes).await?;
            Some((usize::from(address.fragment.get()), bytes))
        });
        let present: Vec<(usize, Bytes)> = join_all(reads).await.into_iter().flatten().collect();
        judge(&self.parts.codecs.get(record.profile), &present)
    }

    async fn read(
        &self,
        node: NodeId,
        address: FragmentAddress,
        offset_bytes: u32,
        len_bytes: u32,
    ) -> Option<Bytes> {
        let read = Read { address, offset_bytes, len_bytes, foreground: false };
        match self.parts.peers.ask(node, &Request::Read(read), Bytes::new(), PATIENCE).await {
            Ok((Response::Bytes, bytes)) if bytes.len() == len_bytes as usize => Some(bytes),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(slab = %address.slab, %node, %error, "fragment is not there for a sample");
                None
            }
        }
    }
}

/// Holds fragments against each other, each with its index.
fn judge(codec: &Codec, present: &[(usize, Bytes)]) -> Verdict {
    if present.len() <= codec.data_count() {
        return Verdict::TooFew;
    }
    if agree(codec, present.iter()) {
        return Verdict::Agree;
    }
    if present.len() <= codec.data_count() + 1 {
        return Verdict::Unclear;
    }
    let without = |index: usize| present.iter().filter(move |(other, _)| *other != index);
    let mut wrong = present.iter().map(|(index, _)| *index).filter(|index| agree(codec, without(*index)));
    match (wrong.next(), wrong.next()) {
        (Some(index), None) => {
            Verdict::Wrong(FragmentIndex::new(u8::try_from(index).expect("a fragment's index")))
        }
        _ => Verdict::Unclear,
    }
}

/// Whether what the first k give is what the rest is.
fn agree<'a>(codec: &Codec, present: impl Iterator<Item = &'a (usize, Bytes)>) -> bool {
    let all: Vec<(usize, &[u8])> = present.map(|(index, bytes)| (*index, &bytes[..])).collect();
    let (sources, rest) = all.split_at(codec.data_count());
    let mut made: Vec<Vec<u8>> = rest.iter().map(|(_, bytes)| vec![0; bytes.len()]).collect();
    let mut wanted: Vec<(usize, &mut [u8])> =
        rest.iter().zip(&mut made).map(|((index, _), bytes)| (*index, &mut bytes[..])).collect();
    codec.reconstruct_some(sources, &mut wanted).expect("k windows of one length, and others");
    rest.iter().zip(&made).all(|((_, bytes), made)| bytes == made)
}

#[cfg(test)]
mod tests {
    use super::{Verdict, judge};
    use bytes::Bytes;
    use proptest::prelude::*;
    use strongroom_erasure::{Codec, MatrixId};
    use strongroom_types::FragmentIndex;

    const LEN: usize = 96;

    fn fragments(data: usize, parity: usize) -> (Codec, Vec<(usize, Vec<u8>)>) {
        let codec = Codec::new(data, parity, MatrixId::NormalisedCauchy).unwrap();
        let slice = |index: usize| (0..LEN).map(|at| (at * 7 + index * 101 + at / 5) as u8).collect();
        let slices: Vec<Vec<u8>> = (0..data).map(slice).collect();
        let inputs: Vec<&[u8]> = slices.iter().map(|slice| &slice[..]).collect();
        let mut made = vec![vec![0; LEN]; parity];
        let mut wanted: Vec<(usize, &mut [u8])> =
            (data..).zip(made.iter_mut().map(|bytes| &mut bytes[..])).collect();
        codec.encode_some(&inputs, &mut wanted).unwrap();
        (codec, slices.into_iter().chain(made).enumerate().collect())
    }

    fn judged(codec: &Codec, all: &[(usize, Vec<u8>)]) -> Verdict {
        let all: Vec<(usize, Bytes)> =
            all.iter().map(|(index, bytes)| (*index, Bytes::copy_from_slice(bytes))).collect();
        judge(codec, &all)
    }

    proptest! {
        #[test]
        fn one_wrong_fragment_is_found_and_named_where_two_more_than_k_are_there(
            data in 1..8_usize,
            parity in 1..6_usize,
            wrong in any::<prop::sample::Index>(),
            at in 0..LEN,
            bits in 1..=255_u8,
            missing in 0..3_usize,
        ) {
            let (codec, mut all) = fragments(data, parity);
            prop_assert_eq!(judged(&codec, &all), Verdict::Agree);
            all.truncate((data + parity).saturating_sub(missing).max(1));
            let wrong = wrong.index(all.len());
            all[wrong].1[at] ^= bits;
            let expected = match all.len().saturating_sub(data) {
                0 => Verdict::TooFew,
                1 => Verdict::Unclear,
                _ => Verdict::Wrong(FragmentIndex::new(u8::try_from(wrong).unwrap())),
            };
            prop_assert_eq!(judged(&codec, &all), expected);
        }
    }

    #[test]
    fn of_two_wrong_ones_none_is_named() {
        let (codec, mut all) = fragments(5, 4);
        all[1].1[3] ^= 1;
        all[7].1[3] ^= 4;
        assert_eq!(judged(&codec, &all), Verdict::Unclear);
    }
}
