//! Probers: what availability is measured with.

use super::clients::{Load, MAIL};
use super::oracle::Name;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A prober: writes to one gateway, one request at a time, and remembers when each was acknowledged.
pub struct Prober {
    /// The node whose gateway it is.
    pub node: u64,
    acknowledged: Rc<RefCell<Vec<Instant>>>,
    task: tokio::task::JoinHandle<()>,
}

/// Between two requests of a prober.
const PROBE_PAUSE: Duration = Duration::from_millis(20);
/// Bytes of what a prober writes.
const PROBE_LEN_BYTES: u64 = 600;
/// Keys that a prober writes in turn.
const PROBE_KEYS: u64 = 16;

impl Prober {
    /// Begins. To be called inside a `LocalSet`.
    pub fn begin(load: &Rc<Load>, node: u64) -> Self {
        let acknowledged = Rc::new(RefCell::new(Vec::new()));
        let (load, told) = (load.clone(), acknowledged.clone());
        let task = tokio::task::spawn_local(async move {
            for turn in 0.. {
                let name = Name { bucket: MAIL, key: format!("probe/{node}/{}", turn % PROBE_KEYS) };
                if load.put(load.gateway(node), &name, Some(PROBE_LEN_BYTES)).await {
                    told.borrow_mut().push(Instant::now());
                }
                tokio::time::sleep(PROBE_PAUSE).await;
            }
        });
        Self { node, acknowledged, task }
    }

    /// When requests were acknowledged so far.
    pub fn acknowledged(&self) -> Vec<Instant> {
        self.acknowledged.borrow().clone()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
    }
}
