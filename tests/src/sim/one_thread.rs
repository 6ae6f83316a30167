//! A future that is kept to the thread that made it, so that it may be called `Send`.
//!
//! The start of a node is a future that the compiler does not see to be `Send`: a closure over borrowed extents in `strongroom::drive` is "not general
//! enough" for it. The simulator never moves anything to another thread, and this type sees to it.
#![allow(unsafe_code)]

use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::ThreadId;

/// See the module. Polled or dropped on another thread, it panics or leaks.
pub struct OneThread<T> {
    thread: ThreadId,
    future: ManuallyDrop<Pin<Box<dyn Future<Output = T>>>>,
}

// SAFETY: what is inside is reached by `poll` and `drop` alone, and both look first whether they run on the thread that made it; so it is never
// used from another one, wherever the value itself is moved.
unsafe impl<T> Send for OneThread<T> {}

impl<T> OneThread<T> {
    /// Keeps `future` to this thread.
    pub fn new(future: impl Future<Output = T> + 'static) -> Self {
        Self { thread: std::thread::current().id(), future: ManuallyDrop::new(Box::pin(future)) }
    }
}

impl<T> Future for OneThread<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        assert!(self.thread == std::thread::current().id(), "a future of one thread is polled on another");
        self.future.as_mut().poll(context)
    }
}

impl<T> Drop for OneThread<T> {
    fn drop(&mut self) {
        if self.thread == std::thread::current().id() {
            // SAFETY: this is the only place that drops it, and `drop` runs once; nothing touches it afterwards.
            unsafe { ManuallyDrop::drop(&mut self.future) };
        }
    }
}
