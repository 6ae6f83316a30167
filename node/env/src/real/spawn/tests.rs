use super::RealSpawn;
use crate::real::OsRng;
use crate::{Spawn, scope};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use tokio::runtime::Handle;

fn spawn() -> Arc<RealSpawn> {
    RealSpawn::new(Handle::current(), Arc::new(OsRng), 2)
}

#[tokio::test]
async fn shutdown_ends_every_task_and_starts_none_after() {
    let spawn = spawn();
    let alive = Arc::new(());
    for _ in 0..100 {
        let alive = Arc::clone(&alive);
        spawn.spawn(
            "forever",
            Box::pin(async move {
                let _alive = alive;
                std::future::pending::<()>().await;
            }),
        );
    }
    assert_eq!(spawn.running_count(), 100);
    assert_eq!(Arc::strong_count(&alive), 101);
    spawn.shutdown().await;
    assert_eq!(spawn.running_count(), 0);
    assert_eq!(Arc::strong_count(&alive), 1);

    let late = Arc::clone(&alive);
    spawn.spawn("late", Box::pin(async move { drop(late) }));
    assert_eq!(spawn.running_count(), 0);
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[tokio::test]
async fn tasks_see_their_scope_and_pass_it_on() {
    let spawn = spawn();
    let (done, seen) = tokio::sync::oneshot::channel();
    spawn.spawn(
        "outer",
        Box::pin(async move {
            let outer = scope::current().expect("a task of a node");
            outer.spawn.spawn(
                "inner",
                Box::pin(async move {
                    done.send(scope::current().is_some()).expect("the test waits");
                }),
            );
        }),
    );
    assert!(seen.await.expect("sent"));
    assert!(scope::current().is_none());
    spawn.shutdown().await;
}

#[tokio::test]
async fn an_aborted_task_is_forgotten() {
    let spawn = spawn();
    let task = spawn.spawn("forever", Box::pin(std::future::pending()));
    assert_eq!(spawn.running_count(), 1);
    task.abort();
    spawn.shutdown().await;
    assert_eq!(spawn.running_count(), 0);
}

#[test]
fn blocking_work_is_bounded_and_leaves_the_runtime_free() {
    tokio_uring::start(async {
        let spawn = spawn();
        let busy = Arc::new(AtomicUsize::new(0));
        let busiest = Arc::new(AtomicUsize::new(0));
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(std::sync::Mutex::new(released));
        let jobs: Vec<_> = (0..8)
            .map(|_| {
                let (busy, busiest, released) = (busy.clone(), busiest.clone(), released.clone());
                spawn.blocking(
                    "wait",
                    Box::new(move || {
                        busiest.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        released.lock().unwrap().recv().unwrap();
                        busy.fetch_sub(1, Ordering::SeqCst);
                    }),
                )
            })
            .collect();
        // The jobs wait for what only this thread sends: it must not be theirs.
        let all = futures::future::join_all(jobs);
        let sender = async {
            for _ in 0..8 {
                tokio::task::yield_now().await;
                release.send(()).unwrap();
            }
        };
        futures::future::join(all, sender).await;
        assert!(busiest.load(Ordering::SeqCst) <= 2);
        assert_eq!(busy.load(Ordering::SeqCst), 0);
    });
}
