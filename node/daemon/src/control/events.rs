//! Events over the control socket, as a stream of server-sent events.
//!
//! An event's id names the run of the node and the event's number, so that a reader that comes back goes on behind what it saw, and one that comes back to
//! another run of the node begins anew. What a reader was too slow for is told as an event `lost`.

use super::input::Query;
use super::problem::{Problem, Sort};
use crate::events::{Event, Events, Told};
use crate::jobs::rfc3339;
use crate::limits::EVENT_STREAMS_MAX;
use crate::node::Node;
use axum::extract::State;
use axum::response::sse::{self, KeepAlive, Sse};
use futures::stream::{self, Stream};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::{IntoParams, ToSchema};

/// A silent stream says that it is there this often.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
/// The header by which a reader that comes back says what it saw last.
const LAST_EVENT_ID: &str = "last-event-id";

/// An event in the stream.
#[derive(Serialize, ToSchema)]
pub struct EventView {
    /// Its number in this run of the node, from 1 without gaps.
    pub sequence: u64,
    /// When it was: RFC 3339, by this node's calendar.
    pub at: String,
    /// What happened, in words.
    pub words: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// The streams that are open.
#[derive(Clone)]
pub(super) struct Streams {
    places: Arc<Semaphore>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(EVENT_STREAMS_MAX)) }
    }
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Whether the stream goes on with what happens from now on, or ends behind what is kept.
    #[serde(default = "yes")]
    #[param(required = false)]
    follow: bool,
}

fn yes() -> bool {
    true
}

/// What happened: the newest events that are kept, then those that come. `Last-Event-ID` goes on behind that one.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(EventsQuery, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was seen")),
    responses(
        (status = 200, description = "Server-sent events: `id` names the run of the node and the number, `event` the kind, `data` is this as JSON", body = EventView, content_type = "text/event-stream"),
        (status = 400, description = "Bad input", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "As many follow as may", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn events(
    State(node): State<Arc<Node>>,
    State(streams): State<Streams>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let seen = seen(node.events(), &headers)?;
    let place = streams.places.try_acquire_owned().map_err(|_| {
        let detail = format!("{EVENT_STREAMS_MAX} readers follow the events already: end one of them");
        Problem::new(Sort::Busy, detail)
    })?;
    let reader = Reader { node, seen, queue: VecDeque::new(), follow: query.follow, _place: place };
    let events = stream::unfold(reader, |mut reader| async move {
        let next = reader.next().await?;
        Some((Ok(next), reader))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_EVERY)))
}

/// The number of the last event that the reader saw; 0 for none, or one of another run of the node.
fn seen(events: &Events, headers: &HeaderMap) -> Result<u64, Problem> {
    let Some(id) = headers.get(LAST_EVENT_ID) else { return Ok(0) };
    let id = id.to_str().unwrap_or_default();
    let parsed =
        id.split_once('-').and_then(|(run, sequence)| Some((run.parse().ok()?, sequence.parse().ok()?)));
    let Some((run, sequence)) = parsed else {
        let detail =
            format!("{id:?} is no id of an event: take the `id` of the last one that was seen, or none");
        let problem = Problem::new(Sort::BadInput, detail).with_field(LAST_EVENT_ID);
        return Err(problem.with_expected("RUN-NUMBER"));
    };
    let run: u64 = run;
    Ok(if run == events.run() { sequence } else { 0 })
}

struct Reader {
    node: Arc<Node>,
    seen: u64,
    /// What is to be sent: at most what the ring holds, each shared with it.
    queue: VecDeque<Arc<Told>>,
    follow: bool,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    /// The next one; `None` where there is none and the reader does not follow.
    async fn next(&mut self) -> Option<sse::Event> {
        let events = self.node.events().clone();
        loop {
            if let Some(told) = self.queue.pop_front() {
                self.seen = told.sequence;
                return Some(event(events.run(), &told));
            }
            let unseen = events.after(self.seen);
            self.queue.extend(unseen.told);
            if unseen.lost > 0 && self.seen > 0 {
                return Some(lost(unseen.lost));
            }
            if self.queue.is_empty() {
                if !self.follow {
                    return None;
                }
                events.wait_beyond(self.seen).await;
            }
        }
    }
}

fn event(run: u64, told: &Told) -> sse::Event {
    let view = EventView {
        sequence: told.sequence,
        at: rfc3339(told.at),
        words: told.event.to_string(),
        event: told.event.clone(),
    };
    let data = serde_json::to_string(&view).expect("an event is plain data");
    sse::Event::default().id(format!("{run}-{}", told.sequence)).event(told.event.name()).data(data)
}

fn lost(count: u64) -> sse::Event {
    let words = format!("{count} events came and went before this reader took them");
    let data = serde_json::json!({ "lost": count, "words": words });
    sse::Event::default().event("lost").data(data.to_string())
}

#[cfg(test)]
mod tests {
    use super::{LAST_EVENT_ID, seen};
    use crate::events::Events;
    use crate::testing::StillClock;
    use http::{HeaderMap, HeaderValue};
    use std::sync::Arc;

    #[test]
    fn a_reader_goes_on_behind_what_it_saw_and_begins_anew_with_another_run() {
        let events = Events::new(Arc::new(StillClock::default()));
        let with = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LAST_EVENT_ID, HeaderValue::from_str(id).unwrap());
            seen(&events, &headers)
        };
        assert_eq!(seen(&events, &HeaderMap::new()), Ok(0));
        assert_eq!(with(&format!("{}-17", events.run())), Ok(17));
        assert_eq!(with("1-17"), Ok(0));
        for bad in ["", "17", "a-b", "1-", "-1", "1-2-3"] {
            assert_eq!(with(bad).unwrap_err().field.as_deref(), Some(LAST_EVENT_ID), "{bad:?}");
        }
    }
}
