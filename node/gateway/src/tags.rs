//! MD5 of what several requests carry at the moment, side by side: for one object it is most of what a PUT costs, for sixteen at once it costs little more than for one.
//!
//! Who has bytes of a body puts them here and lets everything else that is ready go first, which may have some too. Then whoever comes back first hashes of what is there as much
//! as the machine does in the time of one piece, and those whose it was find it done. A request that is alone finds nothing else, and has waited for nobody. Where the
//! machine hashes one message at a time, each request does so for itself.

use bytes::Bytes;
use futures::channel::oneshot;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use strongroom_erasure::md5::{self, Md5, Update};

use crate::limits::BODY_PIECE_LEN_BYTES_MAX;

/// Shorter pieces cost more to bring together than to hash.
const LEN_BYTES_MIN: usize = 2048;

/// See the [module](self). One for each door.
#[derive(Debug, Default)]
pub struct Tags {
    /// As many as there are bodies on their way at most, a connection has one: each waits for its piece before it takes another, and takes it back where it goes.
    waiting: Mutex<VecDeque<Job>>,
}

#[derive(Debug)]
struct Job {
    message: Md5,
    bytes: Bytes,
    done: oneshot::Sender<Md5>,
}

/// Where a request waits for its message. What nobody waits for any more is not left behind.
struct Place<'a> {
    tags: &'a Tags,
    done: oneshot::Receiver<Md5>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.done.close();
        self.tags.waiting().retain(|job| !job.done.is_canceled());
    }
}

impl Tags {
    /// The message with `bytes` behind it.
    ///
    /// # Panics
    /// With more than `BODY_PIECE_LEN_BYTES_MAX`: for so long others of the thread may have to wait.
    pub async fn update(&self, mut message: Md5, bytes: Bytes) -> Md5 {
        assert!(bytes.len() <= BODY_PIECE_LEN_BYTES_MAX, "a piece of a body");
        if bytes.len() < LEN_BYTES_MIN || md5::lanes() == 1 {
            message.update(&bytes);
            return message;
        }
        let (done, mine) = oneshot::channel();
        self.waiting().push_back(Job { message, bytes, done });
        let mut place = Place { tags: self, done: mine };
        loop {
            others_first().await;
            if let Ok(Some(message)) = place.done.try_recv() {
                return message;
            }
            if !self.hash_some() {
                return (&mut place.done).await.expect("who has taken a job hands its message back");
            }
        }
    }

    /// Hashes as many as the machine does side by side of those that wait; false if nothing does.
    fn hash_some(&self) -> bool {
        let mut jobs: Vec<Job> = {
            let mut waiting = self.waiting();
            let count = waiting.len().min(md5::lanes());
            waiting.drain(..count).collect()
        };
        let mut updates: Vec<Update<'_>> =
            jobs.iter_mut().map(|Job { message, bytes, .. }| Update { message, bytes: &bytes[..] }).collect();
        md5::update_all(&mut updates);
        let some = !jobs.is_empty();
        for Job { message, done, .. } in jobs {
            // One that went since needs none.
            let _ = done.send(message);
        }
        some
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Comes back behind all that is ready now.
async fn others_first() {
    let mut asked = false;
    poll_fn(|context| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::Tags;
    use bytes::Bytes;
    use futures::executor::block_on;
    use futures::future::join_all;
    use futures::{FutureExt as _, poll};
    use md5::Digest as _;
    use strongroom_erasure::md5::Md5;

    fn body(seed: usize, len: usize) -> Bytes {
        (0..len).map(|place| (place * 31 + seed) as u8).collect()
    }

    fn expected(body: &[u8]) -> [u8; 16] {
        md5::Md5::digest(body).into()
    }

    #[test]
    fn bodies_that_come_together_each_get_their_own_tag() {
        let tags = Tags::default();
        let bodies: Vec<Bytes> = (0..70).map(|seed| body(seed, seed * 1000)).collect();
        let made = block_on(join_all(bodies.iter().map(|body| async {
            let mut message = Md5::default();
            let mut left = body.clone();
            while !left.is_empty() {
                let piece = left.split_to(left.len().min(10_000));
                message = tags.update(message, piece).await;
            }
            message.finish()
        })));
        for (made, body) in made.iter().zip(&bodies) {
            assert_eq!(*made, expected(body), "{} bytes", body.len());
        }
        assert!(tags.waiting().is_empty());
    }

    #[test]
    fn the_first_to_come_back_does_the_work_of_all_and_of_nobody_who_left() {
        if super::md5::lanes() == 1 {
            return; // Nobody waits for anybody.
        }
        block_on(async {
            let (tags, bytes) = (Tags::default(), body(7, 5000));
            let mut first = tags.update(Md5::default(), bytes.clone()).boxed_local();
            let mut second = tags.update(Md5::default(), bytes.clone()).boxed_local();
            let mut third = tags.update(Md5::default(), bytes.clone()).boxed_local();
            assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
            assert!(poll!(&mut third).is_pending());
            assert_eq!(tags.waiting().len(), 3);
            drop(second);
            assert_eq!(tags.waiting().len(), 2, "one that goes takes its piece along");
            assert_eq!(third.await.finish(), expected(&bytes));
            assert!(tags.waiting().is_empty(), "the first one's is done too");
            assert_eq!(first.await.finish(), expected(&bytes));
        });
    }

    #[test]
    fn what_is_short_waits_for_nobody() {
        let tags = Tags::default();
        let made = tags.update(Md5::default(), Bytes::from_static(b"abc")).now_or_never().unwrap();
        assert_eq!(made.finish(), expected(b"abc"));
    }
}
