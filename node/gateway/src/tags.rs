//! MD5 of what several requests carry at the moment, side by side: for one object it is most of what a PUT costs, for sixteen at once less than one and a half times that.
//!
//! Who has bytes of a body puts them here and lets everything else that is ready go first, which may have some too. Then whoever comes back first hashes of what is there as many
//! as the machine does side by side, and those whose it was find it done. A request that is alone finds nothing else, and has waited for nobody. Where the
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
    /// `None` once the message came.
    done: Option<oneshot::Receiver<Md5>>,
}

impl Place<'_> {
    /// The message, if it is there.
    fn take(&mut self) -> Option<Md5> {
        let message = self.done.as_mut()?.try_recv().expect(HANDED_BACK)?;
        self.done = None;
        Some(message)
    }

    /// The message, when another thread has hashed it.
    async fn wait(mut self) -> Md5 {
        let done = self.done.as_mut().expect("it did not come yet");
        let message = done.await.expect(HANDED_BACK);
        self.done = None;
        message
    }
}

const HANDED_BACK: &str = "who has taken a job hands its message back";

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(mut done) = self.done.take() {
            done.close();
            self.tags.waiting().retain(|job| !job.done.is_canceled());
        }
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
        let mut place = Place { tags: self, done: Some(mine) };
        loop {
            others_first().await;
            // Done by another, or by this one now. Else those that were before it have taken this go.
            if let Some(message) = place.take() {
                return message;
            }
            let some = self.hash_some();
            if let Some(message) = place.take() {
                return message;
            }
            if !some {
                return place.wait().await;
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
    use super::{Job, Tags};
    use bytes::Bytes;
    use futures::channel::oneshot;
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

    /// What another thread has taken, this one waits for; and whether it still does is no matter to the other.
    #[test]
    fn what_another_has_taken_is_waited_for() {
        if super::md5::lanes() == 1 {
            return; // Nobody waits for anybody.
        }
        block_on(async {
            let (tags, bytes) = (Tags::default(), body(3, 5000));
            let mut mine = tags.update(Md5::default(), bytes.clone()).boxed_local();
            let mut gone = tags.update(Md5::default(), bytes.clone()).boxed_local();
            assert!(poll!(&mut mine).is_pending() && poll!(&mut gone).is_pending());
            let taken: Vec<Job> = tags.waiting().drain(..).collect();
            assert!(
                poll!(&mut mine).is_pending() && poll!(&mut gone).is_pending(),
                "there is nothing to do for them"
            );
            drop(gone);
            assert!(poll!(&mut mine).is_pending());
            for Job { mut message, bytes, done } in taken {
                message.update(&bytes);
                let _ = done.send(message);
            }
            assert_eq!(mine.await.finish(), expected(&bytes));
        });
    }

    #[test]
    fn one_go_is_as_many_as_the_machine_hashes_side_by_side() {
        let (tags, lanes) = (Tags::default(), super::md5::lanes());
        let mut receivers = Vec::new();
        for _ in 0..=lanes {
            let (done, receiver) = oneshot::channel();
            tags.waiting().push_back(Job { message: Md5::default(), bytes: body(1, 3000), done });
            receivers.push(receiver);
        }
        for left in [1, 0] {
            assert!(tags.hash_some());
            assert_eq!(tags.waiting().len(), left);
        }
        assert!(!tags.hash_some());
        for mut receiver in receivers {
            assert_eq!(receiver.try_recv().unwrap().unwrap().finish(), expected(&body(1, 3000)));
        }
    }

    #[test]
    fn what_is_short_waits_for_nobody() {
        let tags = Tags::default();
        let made = tags.update(Md5::default(), Bytes::from_static(b"abc")).now_or_never().unwrap();
        assert_eq!(made.finish(), expected(b"abc"));
    }
}
