//! Listing: each group's page, merged.

use super::{Parts, misfit, unavailable};
use futures::future::join_all;
use strongroom_gateway::store::{ListEntry, ListPage, ListRequest, StoreError};
use strongroom_meta::group::{GroupAnswer, GroupQuery, Page, PageEntry};
use strongroom_types::{BucketId, GroupId};

pub(super) async fn list(parts: &Parts, request: ListRequest) -> Result<ListPage, StoreError> {
    for fresh in [false, true] {
        let bucket = parts.buckets.resolve(&request.bucket, fresh).await?.bucket;
        if let Some(pages) = pages(parts, bucket, &request).await? {
            return Ok(merge(pages, request.limit as usize));
        }
    }
    Err(StoreError::NoSuchBucket(request.bucket))
}

/// A page of each group; `None` where one does not know the bucket.
async fn pages(
    parts: &Parts,
    bucket: BucketId,
    request: &ListRequest,
) -> Result<Option<Vec<Page>>, StoreError> {
    let reads = (0..parts.buckets.group_count()).map(GroupId::new).map(|group| {
        let query = GroupQuery::List {
            bucket,
            prefix: request.prefix.clone(),
            delimiter: request.delimiter.clone(),
            after: request.after.clone(),
            limit: request.limit,
        };
        parts.meta.read(group, query, parts.deadline())
    });
    let mut pages = Vec::new();
    for answer in join_all(reads).await {
        match answer.map_err(|error| unavailable(&error))? {
            GroupAnswer::List(page) => pages.push(page),
            GroupAnswer::NoSuchBucket => return Ok(None),
            other => return Err(misfit(&other)),
        }
    }
    Ok(Some(pages))
}

fn name(entry: &PageEntry) -> &str {
    match entry {
        PageEntry::Object { key, .. } => key.as_str(),
        PageEntry::CommonPrefix(prefix) => prefix,
    }
}

/// The first `limit` names of all pages. Each page is the beginning of its group, so up to the last name of the shortest page that was
/// truncated nothing can be missing.
fn merge(pages: Vec<Page>, limit: usize) -> ListPage {
    let known_upto = pages
        .iter()
        .filter(|page| page.truncated)
        .map(|page| page.entries.last().map(|entry| name(entry).to_owned()).unwrap_or_default())
        .min();
    let mut truncated = known_upto.is_some();
    let mut all: Vec<PageEntry> = pages.into_iter().flat_map(|page| page.entries).collect();
    all.sort_by(|one, other| name(one).cmp(name(other)));
    // The same common prefix may come from several groups; a key is in one group only.
    all.dedup_by(|one, other| name(one) == name(other));
    if let Some(upto) = known_upto {
        all.retain(|entry| name(entry) <= upto.as_str());
    }
    if all.len() > limit {
        all.truncate(limit);
        truncated = true;
    }
    ListPage { entries: all.into_iter().map(entry).collect(), truncated }
}

fn entry(entry: PageEntry) -> ListEntry {
    match entry {
        PageEntry::Object { key, len_bytes, etag, modified } => {
            ListEntry::Object { key, len_bytes, etag, modified }
        }
        PageEntry::CommonPrefix(prefix) => ListEntry::CommonPrefix(prefix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(names: &[&str], truncated: bool) -> Page {
        let entries = names.iter().map(|name| PageEntry::CommonPrefix((*name).to_owned())).collect();
        Page { entries, truncated }
    }

    fn names(page: &ListPage) -> Vec<String> {
        let name = |entry: &ListEntry| match entry {
            ListEntry::CommonPrefix(prefix) => prefix.clone(),
            ListEntry::Object { key, .. } => key.as_str().to_owned(),
        };
        page.entries.iter().map(name).collect()
    }

    #[test]
    fn merges_in_order_without_repeats() {
        let merged = merge(vec![page(&["a", "c"], false), page(&["a", "b"], false)], 10);
        assert_eq!(names(&merged), ["a", "b", "c"]);
        assert!(!merged.truncated);
    }

    #[test]
    fn stops_where_a_truncated_page_ends() {
        let merged = merge(vec![page(&["a", "b"], true), page(&["c", "d"], false)], 10);
        assert_eq!(names(&merged), ["a", "b"]);
        assert!(merged.truncated);
    }

    #[test]
    fn limit_in_pairs() {
        let pages = || vec![page(&["a", "b"], false), page(&["c"], false)];
        assert!(!merge(pages(), 3).truncated);
        let cut = merge(pages(), 2);
        assert!(cut.truncated);
        assert_eq!(names(&cut), ["a", "b"]);
    }
}
