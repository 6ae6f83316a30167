//! A look at all slabs of the cluster: what they are, and what they survive as things are.
//!
//! Asks the slab tables of all groups, page by page, each page linearizably, and folds what it sees: nothing is kept of a slab. What a table says is true
//! of its moment; that a drive is there is this node's opinion ([`Monitor`]). What is done about it is decided elsewhere.

use crate::cluster::Monitor;
use crate::cluster::monitor::{Presence, Presences};
use crate::jobs::rfc3339;
use crate::limits::SLABS_PAGE;
use crate::slabs::Slabs;
use crate::status::{SlabCounts, SlabSurvey};
use crate::store::Found;
use futures::future::{Either, select};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use strongroom_core::durable::Spread;
use strongroom_core::{FragmentSet, Margin, margin};
use strongroom_env::Env;
use strongroom_format::cold;
use strongroom_meta::MetaError;
use strongroom_types::{ClusterView, FragmentIndex, GroupId, Instant, SlabRecord, SlabState};

/// For how long what a look has found may be told again.
const FRESH: Duration = Duration::from_secs(3);
/// How long a look may take that somebody waits for: less than a client of the control socket waits.
const PATIENCE: Duration = Duration::from_secs(8);

/// Why nothing can be said of the cluster's slabs.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SurveyError {
    /// It is not known yet whether the configuration names the groups that there are.
    #[error("it is not known yet whether the cluster is the one that node.toml describes")]
    NotFound,
    /// A table does not answer.
    #[error("the slab table of {group} does not answer: {source}")]
    Silent {
        /// Of which group.
        group: GroupId,
        /// Why.
        #[source]
        source: Arc<MetaError>,
    },
    /// The look took too long.
    #[error("the slab tables were not gone through within {} s", PATIENCE.as_secs())]
    Late,
}

/// How whole a slab is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Fragments that are damaged or gone: they are to be made again.
    pub lost: FragmentSet,
    /// Fragments that may come back.
    pub away: FragmentSet,
    /// What the slab survives without all of these.
    pub margin: Margin,
}

impl Condition {
    /// How whole a slab is whose drives are there or not, so.
    pub fn of(record: &SlabRecord, view: &ClusterView, presences: &Presences) -> Self {
        let lost = strongroom_core::repair::lost(record, |holder| presences.of(*holder) == Presence::Gone);
        let places = (0..).map(FragmentIndex::new).zip(&record.holders);
        let away = places.filter(|(_, holder)| presences.of(**holder) == Presence::Away);
        let away = away.map(|(fragment, _)| fragment).collect::<FragmentSet>().without(lost);
        // Where a holder's node is not known nothing can be promised.
        let margin = Spread::of(record, view)
            .map_or(Margin::Nothing, |spread| margin(&spread, spread.all().without(lost.union(away))));
        Self { lost, away, margin }
    }

    /// Whether every fragment is there.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty() && self.away.is_empty()
    }
}

/// Counts a slab by its state.
pub fn count(counts: &mut SlabCounts, record: &SlabRecord) {
    match &record.state {
        SlabState::Open => counts.open += 1,
        SlabState::Sealing => counts.sealing += 1,
        SlabState::Dead => counts.dead += 1,
        SlabState::Sealed(sealed) => {
            if sealed.rows == 0 {
                counts.empty += 1;
            } else if record.profile.is_copies() {
                counts.hot += 1;
                counts.hot_image_bytes += u64::from(sealed.len_bytes);
            } else {
                counts.cold += 1;
                counts.cold_image_bytes += u64::from(sealed.len_bytes);
            }
        }
    }
}

/// Bytes of one fragment of a sealed slab, on media; 0 of one that is not sealed.
pub fn fragment_len_bytes(record: &SlabRecord) -> u64 {
    match record.sealed() {
        None => 0,
        Some(sealed) if record.profile.is_copies() => u64::from(sealed.len_bytes),
        Some(sealed) => cold::data_len(cold::slice_len(sealed.len_bytes, record.profile.data_count())),
    }
}

/// What a look works with.
pub struct SurveyParts {
    /// The world.
    pub env: Env,
    /// The slab tables.
    pub slabs: Arc<Slabs>,
    /// Which drives are there.
    pub monitor: Arc<Monitor>,
    /// Data groups of the cluster.
    pub groups: u16,
    /// No look counts before it is set.
    pub found: Found,
}

/// Looks at all slabs.
pub struct Surveyor {
    parts: SurveyParts,
    last: tokio::sync::Mutex<Option<(Instant, SlabSurvey)>>,
}

impl Surveyor {
    /// Nothing was looked at yet.
    pub fn new(parts: SurveyParts) -> Self {
        Self { parts, last: tokio::sync::Mutex::new(None) }
    }

    /// Shows every slab that is not dead to `visit`, and tells what all of them are.
    ///
    /// # Errors
    /// See [`SurveyError`]; then `visit` has seen some of them.
    pub async fn look(
        &self,
        mut visit: impl FnMut(&SlabRecord, &Condition),
    ) -> Result<SlabSurvey, SurveyError> {
        // With another count of groups some would not be asked.
        if !self.parts.found.is_set() {
            return Err(SurveyError::NotFound);
        }
        let mut survey = SlabSurvey::default();
        for group in (0..self.parts.groups).map(GroupId::new) {
            let mut after = None;
            loop {
                let page = self.parts.slabs.page(group, after, SLABS_PAGE).await;
                let page = page.map_err(|source| SurveyError::Silent { group, source: Arc::new(source) })?;
                // After the table was asked: what it names is judged by what is there now.
                let (view, presences) = (self.parts.monitor.view(), self.parts.monitor.presences());
                for record in &page {
                    let condition = Condition::of(record, &view, &presences);
                    survey.add(record, &condition);
                    visit(record, &condition);
                }
                match page.last() {
                    Some(last) if page.len() == SLABS_PAGE as usize => after = Some(last.slab),
                    _ => break,
                }
            }
        }
        survey.at = rfc3339(self.parts.env.clock.wall());
        Ok(survey)
    }

    /// What a look of these last seconds has found, or a new one does. Of several who ask at once one looks.
    ///
    /// # Errors
    /// See [`SurveyError`].
    pub async fn recent(&self) -> Result<SlabSurvey, SurveyError> {
        let looked = async {
            let mut last = self.last.lock().await;
            let now = self.parts.env.clock.now();
            if let Some((at, survey)) = &*last
                && now.since(*at) < FRESH
            {
                return Ok(survey.clone());
            }
            let survey = self.look(|_, _| {}).await?;
            *last = Some((self.parts.env.clock.now(), survey.clone()));
            Ok(survey)
        };
        match select(pin!(looked), self.parts.env.clock.sleep(PATIENCE)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => Err(SurveyError::Late),
        }
    }

    /// Whether some version points into the slab: whether any group has given out a locator into it.
    ///
    /// # Errors
    /// `Silent`.
    pub async fn has_content(&self, record: &SlabRecord) -> Result<bool, SurveyError> {
        for group in (0..self.parts.groups).map(GroupId::new) {
            let used_upto = self.parts.slabs.used_upto(group, record.slab).await;
            let used_upto =
                used_upto.map_err(|source| SurveyError::Silent { group, source: Arc::new(source) })?;
            if used_upto > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Which drives are there, and since when at least that is known of each node.
    pub fn monitor(&self) -> &Monitor {
        &self.parts.monitor
    }
}

impl SlabSurvey {
    fn add(&mut self, record: &SlabRecord, condition: &Condition) {
        count(&mut self.counts, record);
        let Some(sealed) = record.sealed().filter(|sealed| sealed.rows > 0) else { return };
        self.counts.margins.add(condition.margin, 1);
        self.image_bytes.add(condition.margin, u64::from(sealed.len_bytes));
        if !condition.is_whole() {
            self.counts.deficit += 1;
            self.fragments_lost += u64::from(condition.lost.len());
            self.fragments_away += u64::from(condition.away.len());
        }
        if condition.margin == Margin::Lost {
            self.counts.lost += 1;
        }
    }
}
