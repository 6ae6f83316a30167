//! Many writers at once, and the account of what was acknowledged to them.

use super::support::{BUCKET, World, get, once, put, until};
use aws_sdk_s3::Client;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use strongroom::mail::{Generated, generate};
use tokio::task::JoinHandle;

/// Mails above this are left out, so that small drives hold a long storm.
const MAIL_LEN_BYTES_MAX: usize = 24 << 10;
/// Every so manieth mail is one of any size up to this.
const LARGE_EVERY: u64 = 40;
const LARGE_LEN_BYTES_MAX: usize = 2 << 20;
/// A writer's pause between two requests: keeps a storm within what small drives hold. Nothing waits for it.
const PAUSE: Duration = Duration::from_millis(20);
/// Every so manieth request overwrites the writer's own register instead of storing a new mail.
const REGISTER_EVERY: u64 = 8;
/// Readers at once when all is compared.
const READERS: usize = 8;

/// Writers that write until told to stop.
pub struct Storm {
    told: Arc<Told>,
    writers: Vec<JoinHandle<Stored>>,
}

#[derive(Default)]
struct Told {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    acknowledged_at: Mutex<Vec<Instant>>,
    last_refusal: Mutex<String>,
}

/// What was acknowledged.
#[derive(Default)]
pub struct Stored {
    /// Mails by key: the seed and index that each can be made again from.
    mails: BTreeMap<String, (u64, u64)>,
    /// Registers by key: the last value acknowledged, and those of which nobody knows whether they were taken.
    registers: BTreeMap<String, Register>,
}

#[derive(Default)]
struct Register {
    acknowledged: Option<Bytes>,
    unknown: Vec<Bytes>,
}

impl Storm {
    /// Keys begin with `name`, so that two storms of one test do not overwrite each other.
    pub fn begin(world: &World, name: &'static str, writers: u64) -> Self {
        let told = Arc::new(Told::default());
        // Without retries: an acknowledgement is an answer to one request, and a gap is what a plain client would feel.
        let client = once(&world.client());
        let writers =
            (0..writers).map(|writer| tokio::spawn(write(name, writer, client.clone(), told.clone())));
        Self { told: told.clone(), writers: writers.collect() }
    }

    pub fn acknowledged_count(&self) -> u64 {
        self.told.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `count` more requests were acknowledged.
    pub async fn goes_on_for(&self, count: u64, when: &str) {
        let goal = self.acknowledged_count() + count;
        until(&format!("{count} more acknowledged {when}"), async || {
            if self.acknowledged_count() >= goal {
                return Ok(());
            }
            let refusal = self.told.last_refusal.lock().unwrap().clone();
            Err(format!("{} of {goal}, last refusal: {refusal}", self.acknowledged_count()))
        })
        .await;
    }

    /// The longest time without an acknowledgement from `since` until now.
    pub fn longest_gap(&self, since: Instant) -> Duration {
        let mut times = self.told.acknowledged_at.lock().unwrap().clone();
        times.retain(|at| *at > since);
        times.extend([since, Instant::now()]);
        times.sort();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Lets every writer finish its request.
    pub async fn end(self) -> Stored {
        self.told.stop.store(true, Ordering::Relaxed);
        let mut all = Stored::default();
        for writer in self.writers {
            all.join(writer.await.unwrap());
        }
        let refused = self.told.refused.load(Ordering::Relaxed);
        println!(
            "storm: {} mails, {} requests acknowledged, {refused} not",
            all.mails.len(),
            self.told.acknowledged.load(Ordering::Relaxed)
        );
        all
    }
}

async fn write(name: &str, writer: u64, client: Client, told: Arc<Told>) -> Stored {
    let source = generate(writer, 0);
    let mut stored = Stored::default();
    let register = format!("register/{name}/{writer}");
    let mut turn: u64 = 0;
    while !told.stop.load(Ordering::Relaxed) {
        turn += 1;
        let outcome = if turn.is_multiple_of(REGISTER_EVERY) {
            let value = Bytes::from(format!("turn {turn} of writer {writer}"));
            let outcome = put(&client, &register, value.clone()).await;
            let account = stored.registers.entry(register.clone()).or_default();
            match outcome {
                Ok(()) => account.acknowledged = Some(value),
                Err(_) => account.unknown.push(value),
            }
            outcome
        } else {
            if !is_wanted(&source, turn) {
                continue;
            }
            let key = format!("storm/{name}/{writer}/{turn:06}");
            let outcome = put(&client, &key, source.mail(turn).bytes).await;
            if outcome.is_ok() {
                stored.mails.insert(key, (writer, turn));
            }
            outcome
        };
        match outcome {
            Ok(()) => {
                told.acknowledged.fetch_add(1, Ordering::Relaxed);
                told.acknowledged_at.lock().unwrap().push(Instant::now());
            }
            Err(refused) => {
                told.refused.fetch_add(1, Ordering::Relaxed);
                *told.last_refusal.lock().unwrap() = refused.words;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    stored
}

fn is_wanted(source: &Generated, index: u64) -> bool {
    let len_bytes_max =
        if index.is_multiple_of(LARGE_EVERY) { LARGE_LEN_BYTES_MAX } else { MAIL_LEN_BYTES_MAX };
    source.len_bytes(index) <= len_bytes_max
}

impl Stored {
    fn join(&mut self, other: Self) {
        self.mails.extend(other.mails);
        self.registers.extend(other.registers);
    }

    /// Takes a mail of `seed` that was acknowledged under `key` outside of a storm.
    pub fn add(&mut self, key: String, seed: u64, index: u64) {
        self.mails.insert(key, (seed, index));
    }

    /// Reads all of it back and compares each byte.
    pub async fn compare(&self, client: &Client) {
        assert!(!self.mails.is_empty(), "nothing was acknowledged: this would show nothing");
        let source = generate(0, 0);
        let source = &source;
        let faults: Vec<String> = stream::iter(&self.mails)
            .map(|(key, (seed, index))| async move {
                let expected = if *seed == 0 { source.mail(*index) } else { generate(*seed, 0).mail(*index) };
                match get(client, key).await {
                    Ok(Some(bytes)) if bytes == expected.bytes => None,
                    Ok(Some(bytes)) => Some(format!("{key}: {} bytes that differ", bytes.len())),
                    Ok(None) => Some(format!("{key}: acknowledged, and is not there")),
                    Err(words) => Some(words),
                }
            })
            .buffer_unordered(READERS)
            .filter_map(async |fault| fault)
            .collect()
            .await;
        assert!(faults.is_empty(), "{} of {}: {faults:#?}", faults.len(), self.mails.len());
        for (key, register) in &self.registers {
            let found = get(client, key).await.unwrap();
            let is_known = found == register.acknowledged
                || found.as_ref().is_some_and(|found| register.unknown.contains(found));
            assert!(is_known, "{key}: {found:?}, last acknowledged {:?}", register.acknowledged);
        }
    }

    /// Every acknowledged mail is listed.
    pub async fn compare_list(&self, client: &Client) {
        let mut listed = Vec::new();
        let mut pages =
            client.list_objects_v2().bucket(BUCKET).prefix("storm/").into_paginator().page_size(97).send();
        while let Some(page) = pages.next().await {
            listed.extend(page.unwrap().contents().iter().map(|entry| entry.key().unwrap().to_owned()));
        }
        assert!(listed.is_sorted_by(|one, next| one < next), "in order, each key once");
        let missing: Vec<&String> =
            self.mails.keys().filter(|key| listed.binary_search(key).is_err()).collect();
        assert!(missing.is_empty(), "not listed: {missing:?}");
    }
}
