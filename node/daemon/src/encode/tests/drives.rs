//! Drives and a wire between encoders, without a cluster.

use super::{key, table_of};
use crate::cluster::Peers;
use crate::encode::{Encoder, Zones};
use crate::fetch::Codecs;
use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use strongroom_env::{Clock, Env, Handler, Net, NetError, Rng, Spawn, Task};
use strongroom_format::wire::Frame;
use strongroom_format::wire::message::{Encode, Refusal, Request, Response, Sum};
use strongroom_types::{Deadline, FragmentIndex, Instant, NodeId, WallTime, ZoneId};
use tokio::sync::Semaphore;

struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::ORIGIN
    }
    fn wall(&self) -> WallTime {
        WallTime::default()
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(ready(()))
    }
}

impl Rng for Still {
    fn u64(&self) -> u64 {
        4
    }
}

impl Spawn for Still {
    fn spawn(&self, _: &'static str, _: BoxFuture<'static, ()>) -> Task {
        panic!("encoding starts no tasks")
    }
    fn blocking(&self, _: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        work();
        Box::pin(ready(()))
    }
}

/// All drives of the cluster.
#[derive(Default)]
pub struct Drives {
    pub fragments: Vec<Vec<u8>>,
    /// Fragments that cannot be read from this offset on.
    pub bad_from: BTreeMap<FragmentIndex, u32>,
    /// Zones that give no sums.
    pub no_sums: BTreeSet<ZoneId>,
    /// What each fragment's end waits for, if for anything.
    pub held: Option<Arc<Semaphore>>,
    state: Mutex<State>,
}

/// What the drives saw.
#[derive(Default)]
pub struct State {
    pub read: BTreeSet<FragmentIndex>,
    pub written: BTreeMap<FragmentIndex, Vec<u8>>,
    /// Sums that were sent.
    pub sums: u64,
    /// Bytes that were sent to another zone.
    pub sent_far_bytes: u64,
}

/// Fragments lie on nodes 10 and up, two in a zone. All others are of zone 1.
pub fn zone_of(node: NodeId) -> ZoneId {
    ZoneId::new(1 + node.get().saturating_sub(10) as u8 / 2)
}

impl Drives {
    /// With these fragments.
    pub fn holding(fragments: Vec<Vec<u8>>) -> Self {
        Self { fragments, ..Self::default() }
    }

    fn answer(&self, request: Frame) -> (Response, Bytes) {
        let mut state = self.state.lock().unwrap();
        let done = |response| (response, Bytes::new());
        match request.decode_request().unwrap() {
            Request::Read(read) => {
                let fragment = read.address.fragment;
                if self.bad_from.get(&fragment).is_some_and(|from| read.offset_bytes + read.len_bytes > *from)
                {
                    return done(Response::Refused(Refusal::Corrupt { offset_bytes: read.offset_bytes }));
                }
                state.read.insert(fragment);
                let start = read.offset_bytes as usize;
                let bytes =
                    &self.fragments[usize::from(fragment.get())][start..start + read.len_bytes as usize];
                (Response::Bytes, Bytes::copy_from_slice(bytes))
            }
            Request::WriteFragment(write) => {
                let written = state.written.entry(write.address.fragment).or_default();
                written.truncate(write.offset_bytes as usize);
                assert_eq!(written.len(), write.offset_bytes as usize, "pieces come in order");
                written.extend_from_slice(&request.payload);
                done(Response::Done)
            }
            Request::FinishFragment(finish) => {
                let fragment = finish.address.fragment;
                let key = key(fragment.get(), finish.address.generation.get());
                done(Response::Finished { table_crc32c: table_of(&state.written[&fragment], key) })
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The wire as a node of this zone has it.
struct Wire(Arc<Drives>, ZoneId);

impl Net for Wire {
    fn call(&self, node: NodeId, request: Frame, _: Deadline) -> BoxFuture<'static, Result<Frame, NetError>> {
        let (drives, own) = (self.0.clone(), self.1);
        Box::pin(async move {
            let is_end = matches!(request.decode_request(), Ok(Request::FinishFragment(_)));
            if let Some(held) = drives.held.as_ref().filter(|_| is_end) {
                held.acquire().await.unwrap().forget();
            }
            let (response, payload) = match request.decode_request().unwrap() {
                Request::Sum(_) if drives.no_sums.contains(&zone_of(node)) => {
                    (Response::Refused(Refusal::Busy), Bytes::new())
                }
                Request::Sum(sum) => {
                    drives.state.lock().unwrap().sums += 1;
                    encoder(&drives, zone_of(node)).sum(&sum).await
                }
                _ => drives.answer(request),
            };
            if zone_of(node) != own {
                drives.state.lock().unwrap().sent_far_bytes += payload.len() as u64;
            }
            Ok(Frame::response(&response, payload))
        })
    }
    fn serve(&self, _: Arc<dyn Handler>) {}
}

/// The encoder of a node of this zone.
pub fn encoder(drives: &Arc<Drives>, own: ZoneId) -> Encoder {
    let still = Arc::new(Still);
    let net = Arc::new(Wire(drives.clone(), own));
    let env = Env { clock: still.clone(), rng: still.clone(), spawn: still, net };
    let zones = Zones { own, of: Arc::new(|node| Some(zone_of(node))) };
    Encoder::new(Arc::new(Still), Peers::new(env), Arc::new(Codecs::default()), zones)
}

/// Has a node of zone 1 encode; what it answered, and what the drives saw.
pub fn run(drives: Drives, asked: Encode) -> (Response, State) {
    let drives = Arc::new(drives);
    let answer = futures::executor::block_on(encoder(&drives, ZoneId::new(1)).serve(asked));
    let state = std::mem::take(&mut *drives.state.lock().unwrap());
    (answer, state)
}

/// Has a node of zone 1 add up; its answer.
pub fn sum(drives: Drives, asked: &Sum) -> (Response, Bytes) {
    futures::executor::block_on(encoder(&Arc::new(drives), ZoneId::new(1)).sum(asked))
}
