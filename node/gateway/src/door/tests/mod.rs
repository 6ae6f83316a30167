//! The door as a whole, driven by signed requests against the store in memory.

use super::{Door, DoorConfig, DoorParts, Observer, Record};
use crate::testing::{Answer, Client, Keys, ManualClock, MemoryStore, SeededRng, Sign};
use http::StatusCode;
use std::sync::{Arc, Mutex};
use strongroom_types::WallTime;

mod bodies;
mod buckets;
mod lists;
mod objects;
mod refusals;

/// Records of all answers.
#[derive(Default)]
pub(super) struct Records(Mutex<Vec<Record>>);

impl Observer for Records {
    fn answered(&self, record: &Record) {
        self.0.lock().unwrap().push(record.clone());
    }
}

/// A door, its store and a client.
pub(super) struct World {
    pub(super) door: Door,
    pub(super) store: MemoryStore,
    pub(super) client: Client,
    pub(super) clock: Arc<ManualClock>,
    pub(super) records: Arc<Records>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(|store| store)
    }

    pub(super) fn with(change: impl FnOnce(MemoryStore) -> MemoryStore) -> Self {
        let clock = Arc::new(ManualClock::new(WallTime::from_unix_millis(1_800_000_000_123)));
        let rng = Arc::new(SeededRng::new(7));
        let store =
            change(MemoryStore::new(Arc::<ManualClock>::clone(&clock), Arc::<SeededRng>::clone(&rng)));
        let client = Client::new("KEY", "secret", Arc::<ManualClock>::clone(&clock));
        let records = Arc::new(Records::default());
        let door = Door::new(DoorParts {
            store: Arc::new(store.clone()),
            credentials: Arc::new(Keys::one("KEY", "secret")),
            observer: Some(Arc::<Records>::clone(&records)),
            clock: Arc::<ManualClock>::clone(&clock),
            rng,
            config: DoorConfig { domains: vec!["s3.example.org".to_owned()], ..DoorConfig::default() },
        });
        Self { door, store, client, clock, records }
    }

    /// A world with the buckets `mail` and `config`.
    pub(super) async fn with_buckets() -> Self {
        let world = Self::new();
        assert_eq!(world.send("PUT", "/mail", &[], b"").await.status, StatusCode::OK);
        let class = [("x-strongroom-class", "config")];
        assert_eq!(world.send("PUT", "/config", &class, b"").await.status, StatusCode::OK);
        world
    }

    pub(super) async fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.client.send(&self.door, Sign::Sha256, method, target, headers, body).await
    }

    pub(super) async fn send_as(
        &self,
        sign: Sign,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.client.send(&self.door, sign, method, target, headers, body).await
    }

    /// The bytes of an object; `None` where there is none.
    pub(super) async fn read(&self, target: &str) -> Option<Vec<u8>> {
        let answer = self.send("GET", target, &[], b"").await;
        match answer.status {
            StatusCode::OK => Some(answer.body.to_vec()),
            StatusCode::NOT_FOUND => None,
            other => panic!("{other}: {answer:?}"),
        }
    }
}
