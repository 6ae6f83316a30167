//! Whether what was acknowledged would survive: recomputed from the media for every locator of every version.
//!
//! Each holder's fragment is read whole, as a scrub would, so that it is the bytes on the drive and not the table that speak. A
//! locator's bytes are *there* at a holder if all blocks they lie in check. For every locator, of the present layout:
//! - at least `k` holders have its bytes, always;
//! - any one zone may go and `k` are left, counting fragments that harm excuses ([`super::harm`]) as if they were there: it is within the
//!   promise, and may be all that is missing;
//! - what is there matches: a copy's needle the checksum that the locator has of its header, and the header's of its frames; of a
//!   cold slab, the image that *some* `k` of the whole fragments decode to, drawn anew for each slab of each seed, at least one of them
//!   parity where one is whole.
//!
//! And of a sealed slab, but for what harm excuses: each fragment that the table calls whole is.
//!
//! Not checked: every choice of `k` (one for each slab of each run), bytes of the image that belong to no version, slabs whose
//! record changed while they were read (they are looked at again at the end, when none may change any more), and whether a margin above one zone is kept:
//! `ZonePlusOne` is counted, not asked for.

use super::Violation;
use super::content::Content;
use super::layout::Facts;
use crate::sim::draws::{Draws, mix};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use strongroom::fetch::Codecs;
use strongroom_core::durable::{AckRule, Margin, Spread, margin, survives};
use strongroom_core::fragment_set::FragmentSet;
use strongroom_format::cold;
use strongroom_format::needle::NeedleHeader;
use strongroom_types::{FragmentIndex, Locator, SlabId, SlabRecord, SlabState};

const ENOUGH: &str = "durable: enough holders have every acknowledged byte";
const ZONE: &str = "durable: any one zone may go";
const MATCHES: &str = "durable: what is there is what was acknowledged";
const WHOLE: &str = "durable: a fragment that the table calls whole is whole";

/// What was gone through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Slabs that were judged.
    pub slabs: u64,
    /// Locators.
    pub locators: u64,
    /// Fragments read whole.
    pub fragments: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Cold slabs decoded from some `k` fragments.
    pub decoded: u64,
    /// Locators by what they survive now, harm included.
    pub margins: BTreeMap<String, u64>,
}

/// Checks all locators of all versions.
pub fn check(facts: &Facts) -> (Tally, Vec<Violation>) {
    let (mut tally, mut violations) = (Tally::default(), Vec::new());
    let mut by_slab: BTreeMap<SlabId, Vec<(&str, &Locator)>> = BTreeMap::new();
    for (name, _, locators) in &facts.versions {
        for locator in locators {
            by_slab.entry(locator.slab).or_default().push((name, locator));
        }
    }
    for content in facts.contents.values() {
        tally.fragments += 1;
        tally.bytes += u64::from(content.len_bytes());
    }
    for (slab, record) in &facts.slabs {
        if record.state == SlabState::Dead || facts.unsteady.contains(slab) {
            continue;
        }
        let locators = by_slab.get(slab).map_or(&[][..], Vec::as_slice);
        if let Some(layout) = Layout::of(facts, record) {
            tally.slabs += 1;
            layout.check(locators, &mut tally, &mut violations);
        }
    }
    (tally, violations)
}

/// A slab's present layout with what its holders have.
struct Layout<'facts> {
    record: &'facts SlabRecord,
    spread: Spread,
    /// By fragment; `None` where the holder has no such fragment.
    contents: Vec<Option<&'facts Content>>,
    harmed: FragmentSet,
    salt: u64,
}

fn index(place: usize) -> FragmentIndex {
    FragmentIndex::new(u8::try_from(place).expect("a profile has few fragments"))
}

impl<'facts> Layout<'facts> {
    /// `None` where a holder's node has no zone: that is another checker's to say.
    fn of(facts: &'facts Facts, record: &'facts SlabRecord) -> Option<Self> {
        let places: Option<Vec<_>> = record
            .holders
            .iter()
            .map(|holder| Some((*facts.zones.get(&holder.node)?, holder.node)))
            .collect();
        let spread = Spread::from_places(record.profile, &places?)?;
        let contents = (0..record.holders.len())
            .map(|place| {
                let holder = record.holders[place];
                facts.contents.get(&(
                    holder.node,
                    holder.drive,
                    record.slab,
                    index(place),
                    record.made_under[place],
                ))
            })
            .collect();
        let is_harmed = |place: &usize| {
            facts.harm.excuses(&record.holders[*place], record.slab, record.made_under[*place])
        };
        let harmed = (0..record.holders.len()).filter(is_harmed).map(index).collect();
        Some(Self { record, spread, contents, harmed, salt: facts.salt })
    }

    fn check(&self, locators: &[(&str, &Locator)], tally: &mut Tally, violations: &mut Vec<Violation>) {
        let slab = self.record.slab;
        let mut found =
            |rule, found: String| violations.push(Violation { rule, found: format!("{slab} {found}") });
        for place in 0..self.contents.len() {
            if let Some(fault) = self.broken(place) {
                found(WHOLE, format!("{} on {:?}: {fault}", index(place), self.record.holders[place]));
            }
        }
        let image = if locators.is_empty() { None } else { self.image_of_some(&mut found, tally) };
        for (name, locator) in locators {
            tally.locators += 1;
            let there = self.there(locator);
            let needed = u32::from(self.record.profile.data_count());
            if there.len() < needed {
                found(
                    ENOUGH,
                    format!(
                        "{name}: {locator:?} is at {there:?} only, {needed} are needed: {}",
                        self.describe()
                    ),
                );
            }
            let with_harmed = there.union(self.harmed);
            if !survives(&self.spread, with_harmed, AckRule::Zone) {
                found(
                    ZONE,
                    format!(
                        "{name}: {locator:?} is at {there:?}, harmed {:?}: {}",
                        self.harmed,
                        self.describe()
                    ),
                );
            }
            *tally.margins.entry(name_of(margin(&self.spread, there)).to_owned()).or_default() += 1;
            for wrong in self.mismatches(locator, there, image.as_deref()) {
                found(MATCHES, format!("{name}: {locator:?}: {wrong}"));
            }
        }
    }

    /// Why this fragment is not what the table says, where it must be.
    fn broken(&self, place: usize) -> Option<String> {
        let sealed = self.record.sealed().filter(|sealed| sealed.rows > 0)?;
        if sealed.missing >> place & 1 == 1 || self.harmed.contains(index(place)) {
            return None;
        }
        let expected = if self.record.profile.is_copies() {
            sealed.len_bytes
        } else {
            cold::slice_len(sealed.len_bytes, self.record.profile.data_count())
        };
        match self.contents[place] {
            None => Some("is not there".to_owned()),
            Some(content) => content.fault().or_else(|| {
                // A holder that was not told the agreed length yet may have more.
                let len_bytes = content.len_bytes();
                (len_bytes < expected).then(|| format!("{len_bytes} of {expected} bytes"))
            }),
        }
    }

    /// The fragments that have all bytes of a locator.
    fn there(&self, locator: &Locator) -> FragmentSet {
        let Ok(end) = u32::try_from(locator.end_bytes()) else { return FragmentSet::default() };
        let range = self.positions(locator.offset_bytes..end);
        let has = |place: &usize| {
            self.contents[*place].is_some_and(|content| content.range(range.clone()).is_some())
        };
        (0..self.contents.len()).filter(has).map(index).collect()
    }

    /// Where in each fragment the bytes of an image range lie.
    fn positions(&self, range: Range<u32>) -> Range<u32> {
        let (profile, sealed) = (self.record.profile, self.record.sealed());
        let Some(sealed) = sealed.filter(|_| !profile.is_copies()) else { return range };
        let slice = cold::slice_len(sealed.len_bytes, profile.data_count()).max(1);
        let (first, last) = (range.start / slice, range.end.saturating_sub(1) / slice);
        if first == last { range.start % slice..(range.end - 1) % slice + 1 } else { 0..slice }
    }

    /// The image of a cold slab, from some `k` of its whole fragments.
    fn image_of_some(
        &self,
        found: &mut impl FnMut(&'static str, String),
        tally: &mut Tally,
    ) -> Option<Vec<u8>> {
        let profile = self.record.profile;
        let sealed = self.record.sealed().filter(|sealed| !profile.is_copies() && sealed.len_bytes > 0)?;
        let data = usize::from(profile.data_count());
        let slice = cold::slice_len(sealed.len_bytes, profile.data_count());
        let whole = |place: &usize| {
            let content = self.contents[*place].filter(|content| content.is_clean());
            content.is_some_and(|content| content.len_bytes() == slice)
        };
        let mut places: Vec<usize> = (0..self.contents.len()).filter(whole).collect();
        if places.len() < data {
            return None;
        }
        choose(&mut places, data, &mut Draws::new(mix(self.record.slab.to_bits()) ^ self.salt));
        let sources: Vec<(usize, Bytes)> = places
            .iter()
            .filter_map(|place| Some((*place, self.contents[*place]?.range(0..slice)?)))
            .collect();
        let mut image = vec![0; slice as usize * data];
        let mut missing: Vec<(usize, &mut [u8])> = Vec::new();
        for (place, part) in image.chunks_exact_mut(slice as usize).enumerate() {
            match sources.iter().find(|(source, _)| *source == place) {
                Some((_, bytes)) => part.copy_from_slice(bytes),
                None => missing.push((place, part)),
            }
        }
        let borrowed: Vec<(usize, &[u8])> =
            sources.iter().map(|(place, bytes)| (*place, &bytes[..])).collect();
        if !missing.is_empty()
            && let Err(error) = Codecs::default().get(profile).reconstruct_some(&borrowed, &mut missing)
        {
            found(MATCHES, format!("fragments {places:?} cannot be decoded: {error}"));
            return None;
        }
        tally.decoded += 1;
        Some(image)
    }

    /// What does not match, in words.
    fn mismatches(&self, locator: &Locator, there: FragmentSet, image: Option<&[u8]>) -> Vec<String> {
        let Ok(end) = u32::try_from(locator.end_bytes()) else {
            return vec!["ends beyond any image".to_owned()];
        };
        let range = locator.offset_bytes..end;
        if !self.record.profile.is_copies() {
            let needle = image.and_then(|image| image.get(range.start as usize..range.end as usize));
            let wrong = needle.and_then(|needle| wrong_needle(needle, locator));
            return wrong.map(|wrong| format!("decoded: {wrong}")).into_iter().collect();
        }
        let copies = there.iter().filter_map(|fragment| {
            let needle = self.contents[usize::from(fragment.get())]?.range(range.clone())?;
            wrong_needle(&needle, locator).map(|wrong| format!("{fragment}: {wrong}"))
        });
        copies.collect()
    }

    fn describe(&self) -> String {
        let states = self.contents.iter().enumerate().map(|(place, content)| match content {
            None => format!("{} absent", self.record.holders[place].node),
            Some(content) => match content.fault() {
                None => format!("{} has {} B", self.record.holders[place].node, content.len_bytes()),
                Some(fault) => format!("{} {fault}", self.record.holders[place].node),
            },
        });
        format!("{} {:?}: {}", self.record.profile, self.record.state, states.collect::<Vec<_>>().join(", "))
    }
}

/// Keeps `data` of these fragments, any of them, one of parity among them where there is one.
fn choose(places: &mut Vec<usize>, data: usize, draws: &mut Draws) {
    let parities: Vec<usize> = (0..places.len()).filter(|at| places[*at] >= data).collect();
    if !parities.is_empty() {
        places.swap(0, *draws.pick(&parities));
    }
    for place in 1..places.len() {
        let other = place + draws.index(places.len() - place);
        places.swap(place, other);
    }
    places.truncate(data);
}

fn name_of(margin: Margin) -> &'static str {
    match margin {
        Margin::Lost => "lost",
        Margin::Nothing => "nothing",
        Margin::Node => "a node",
        Margin::Zone => "a zone",
        Margin::ZonePlusOne => "a zone and a node",
    }
}

/// What is wrong with the bytes of a needle, if anything.
fn wrong_needle(bytes: &[u8], locator: &Locator) -> Option<String> {
    let header = match NeedleHeader::decode(bytes, locator.header_crc32c) {
        Ok(header) => header,
        Err(error) => return Some(error.to_string()),
    };
    if locator.plain_len_bytes == 0 {
        return None;
    }
    let Some(span) = header.frames_for(0..locator.plain_len_bytes) else {
        return Some("locator and needle header do not fit together".to_owned());
    };
    let stored = bytes.get(span.needle_bytes.start as usize..span.needle_bytes.end as usize);
    match stored.map(|stored| header.span_plain(&span, stored)) {
        None => Some("frames end beyond the needle".to_owned()),
        Some(Err(error)) => Some(error.to_string()),
        Some(Ok(_)) => None,
    }
}

#[cfg(test)]
mod tests;
