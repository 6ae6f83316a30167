//! Runtime threads: each has a runtime, a ring for its drives, and a share of the S3 connections.

use super::{Devices, ProcessError, wait_true};
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use strongroom_gateway::{Door, ServeParts, serve};
use strongroom_io::backend::Backend;
use strongroom_io::open::{Direct, Drive, OpenError, OpenMode, Partitioned, open_drive};
use strongroom_io::{Device, uring};
use tokio::sync::{mpsc, oneshot, watch};

/// Connections that the kernel holds for a listener before they are accepted.
const BACKLOG: i32 = 1024;
/// Submissions in tokio-uring's own ring: it carries no drive I/O here, and rings count as locked memory.
const RUNTIME_RING_ENTRIES: u32 = 16;
/// How long a locked drive is tried again. A ring is taken apart by the kernel after its process has ended, and the drive's lock goes with it:
/// a node that was killed and started at once would else refuse its own drive.
const LOCKED_PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries.
const LOCKED_RETRY: Duration = Duration::from_millis(50);

/// Runs `make`'s future on a runtime of this thread, with io_uring where that works.
///
/// # Errors
/// No runtime could be made.
pub fn run_local<F: Future>(make: impl FnOnce() -> F) -> io::Result<F::Output> {
    if uring::features().is_ok() {
        let mut ring = tokio_uring::uring_builder();
        ring.setup_coop_taskrun();
        return Ok(tokio_uring::builder().entries(RUNTIME_RING_ENTRIES).uring_builder(&ring).start(make()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, make()))
}

/// A listener that several threads share an address by.
///
/// # Errors
/// The address cannot be listened on.
pub fn listen_shared(address: SocketAddr) -> io::Result<StdListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Devices with their places in the configuration.
type Numbered = Vec<(usize, Arc<dyn Device>)>;

/// What a thread is asked to do.
enum Order {
    Serve {
        listener: StdListener,
        door: Arc<Door>,
        parts: ServeParts,
        ended: watch::Receiver<bool>,
        done: oneshot::Sender<()>,
    },
}

struct Worker {
    orders: mpsc::UnboundedSender<Order>,
    thread: JoinHandle<()>,
}

/// The runtime threads of a node, this one included.
pub struct Threads {
    devices: Devices,
    workers: Vec<Worker>,
}

impl Threads {
    /// Starts `count - 1` threads beside this one and opens the drives, each on its thread.
    ///
    /// # Errors
    /// A drive cannot be opened, or a thread not started.
    pub async fn start(count: usize, drives: &[PathBuf]) -> Result<Self, ProcessError> {
        let share = |thread: usize| -> Vec<(usize, PathBuf)> {
            drives.iter().cloned().enumerate().filter(|(index, _)| index % count == thread).collect()
        };
        let mut threads = Self { devices: Vec::new(), workers: Vec::new() };
        let mut answers = Vec::new();
        for thread in 1..count {
            let (opened, answer) = oneshot::channel();
            let (orders, received) = mpsc::unbounded_channel();
            let paths = share(thread);
            let body = move || {
                // Where the runtime could not be made, `opened` is dropped, and the starter sees that.
                let _ = run_local(|| worker(paths, opened, received));
            };
            let thread = std::thread::Builder::new()
                .name(format!("runtime-{thread}"))
                .spawn(body)
                .map_err(ProcessError::Thread)?;
            threads.workers.push(Worker { orders, thread });
            answers.push(answer);
        }
        let mut opened = open_all(share(0)).await;
        for answer in answers {
            let lost = || ProcessError::Thread(io::Error::other("ended at start"));
            let more = answer.await.unwrap_or_else(|_| Err(lost()));
            opened = match (opened, more) {
                (Ok(mut all), Ok(more)) => {
                    all.extend(more);
                    Ok(all)
                }
                (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            };
        }
        match opened {
            Ok(mut all) => {
                all.sort_by_key(|(index, _)| *index);
                threads.devices = all.into_iter().map(|(_, device)| device).collect();
                Ok(threads)
            }
            Err(error) => {
                threads.stop().await;
                Err(error)
            }
        }
    }

    /// The drives, in the order of the configuration.
    pub fn devices(&self) -> &[Arc<dyn Device>] {
        &self.devices
    }

    /// Serves S3 on the other threads, one listener each; completes once all of them have ended.
    pub fn serve(
        &self,
        listeners: Vec<StdListener>,
        door: Arc<Door>,
        parts: ServeParts,
        ended: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + use<> {
        let mut ends = Vec::new();
        for (worker, listener) in self.workers.iter().zip(listeners) {
            let (done, end) = oneshot::channel();
            let (door, parts, ended) = (door.clone(), parts.clone(), ended.clone());
            // A thread that has ended takes no order; then `end` completes at once.
            let _ = worker.orders.send(Order::Serve { listener, door, parts, ended, done });
            ends.push(end);
        }
        async move {
            for end in ends {
                let _ = end.await;
            }
        }
    }

    /// Closes the drives, then ends the threads.
    pub async fn stop(self) {
        for device in &self.devices {
            device.close().await;
        }
        drop(self.devices);
        for Worker { orders, thread } in self.workers {
            drop(orders);
            // It panicked, and said so, or it ended.
            let _ = thread.join();
        }
    }
}

async fn worker(
    paths: Vec<(usize, PathBuf)>,
    opened: oneshot::Sender<Result<Numbered, ProcessError>>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    if opened.send(open_all(paths).await).is_err() {
        return;
    }
    while let Some(Order::Serve { listener, door, parts, ended, done }) = orders.recv().await {
        if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
            tokio::task::spawn_local(async move {
                serve(listener, door, parts, wait_true(ended)).await;
                let _ = done.send(());
            });
        }
    }
}

async fn open_all(paths: Vec<(usize, PathBuf)>) -> Result<Numbered, ProcessError> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let backend = Backend::choose();
    let mut devices = Vec::new();
    for (index, path) in paths {
        devices.push((index, open(&backend, &path).await?));
    }
    Ok(devices)
}

/// Opens one drive, for this process alone. A file system without O_DIRECT gets a warning, not a refusal.
async fn open(backend: &Backend, path: &Path) -> Result<Arc<dyn Device>, ProcessError> {
    let mode =
        OpenMode { create_len_bytes: None, direct: Direct::IfPossible, partitioned: Partitioned::Refuse };
    let drive = open_once_unlocked(path, mode)
        .await
        .map_err(|source| ProcessError::Open { path: path.into(), source })?;
    if !drive.direct() {
        tracing::warn!(path = %path.display(), "this file system has no O_DIRECT: the page cache stands in between");
    }
    backend.attach(drive).await.map_err(|source| ProcessError::Backend { path: path.into(), source })
}

/// As `open_drive`, with patience for a process that has just ended.
async fn open_once_unlocked(path: &Path, mode: OpenMode) -> Result<Drive, OpenError> {
    let begun = Instant::now();
    loop {
        match open_drive(path, mode) {
            Err(OpenError::Locked { .. }) if begun.elapsed() < LOCKED_PATIENCE => {
                tokio::time::sleep(LOCKED_RETRY).await;
            }
            opened => return opened,
        }
    }
}
