//! The S3 door over the store in memory, on a loopback port: to try a client against it by hand.
//!
//! `cargo run -p strongroom-gateway --features testing --example door -- 127.0.0.1:9000`, then use the access key
//! `KEYKEYKEYKEYKEYKEYKE` and the secret `secretsecretsecret`.

use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use strongroom_env::{Clock, Rng, Spawn, Task};
use strongroom_gateway::testing::{Keys, MemoryStore, SeededRng};
use strongroom_gateway::{Door, DoorConfig, DoorParts, Observer, Record, ServeParts};
use strongroom_types::{Instant, WallTime};

struct SystemClock(std::time::Instant);

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime::from_unix_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

struct TokioSpawn;

impl Spawn for TokioSpawn {
    fn spawn(&self, _name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let task = tokio::spawn(future);
        Task::new(move || task.abort())
    }

    fn blocking(&self, _name: &'static str, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        work();
        Box::pin(std::future::ready(()))
    }
}

struct Print;

impl Observer for Print {
    fn answered(&self, record: &Record) {
        println!("{} {} {:?}", record.operation.unwrap_or("-"), record.status, record.code);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9000".to_owned());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock(std::time::Instant::now()));
    let rng: Arc<dyn Rng> = Arc::new(SeededRng::new(clock.wall().as_unix_millis()));
    let door = Door::new(DoorParts {
        store: Arc::new(MemoryStore::new(Arc::clone(&clock), Arc::clone(&rng))),
        credentials: Arc::new(Keys::one("KEYKEYKEYKEYKEYKEYKE", "secretsecretsecret")),
        observer: Some(Arc::new(Print)),
        clock: Arc::clone(&clock),
        rng,
        config: DoorConfig::default(),
    });
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("listening on {}", listener.local_addr()?);
    let shutdown = async {
        // Without a handler there is no orderly end, but an end.
        let _ = tokio::signal::ctrl_c().await;
    };
    strongroom_gateway::serve(
        listener,
        Arc::new(door),
        ServeParts { clock, spawn: Arc::new(TokioSpawn) },
        shutdown,
    )
    .await;
    Ok(())
}
