//! So many at once, and others wait.

use super::drives::{Drives, encoder};
use super::{again, encode, fragments, key, table_of};
use crate::limits::ENCODES_MAX;
use futures::FutureExt;
use futures::executor::block_on;
use futures::stream::{FuturesUnordered, StreamExt};
use std::sync::Arc;
use strongroom_format::wire::message::{Refusal, Response};
use strongroom_types::ZoneId;
use tokio::sync::Semaphore;

#[test]
fn who_finds_no_place_in_time_is_told_and_the_next_place_is_the_next_ones() {
    let (all, ends) = (fragments(), Arc::new(Semaphore::new(0)));
    let table = table_of(&all[0], key(0, 2));
    let mut drives = Drives::holding(all);
    drives.held = Some(ends.clone());
    let encoder = encoder(&Arc::new(drives), ZoneId::new(1));
    let ask = || encoder.serve(encode(3, vec![again(0, 2, table)]));
    let mut under_way: FuturesUnordered<_> = (0..ENCODES_MAX).map(|_| ask()).collect();
    assert!(under_way.next().now_or_never().is_none(), "all wait for their holders");
    // Of this clock any patience is over at once.
    assert_eq!(ask().now_or_never(), Some(Response::Refused(Refusal::Busy)));
    ends.add_permits(1);
    assert!(matches!(block_on(under_way.next()), Some(Response::Encoded { .. })));
    let mut next = std::pin::pin!(ask());
    assert_eq!(next.as_mut().now_or_never(), None, "it has a place, and waits for its holder");
    ends.add_permits(ENCODES_MAX);
    assert!(matches!(block_on(next), Response::Encoded { .. }));
    assert_eq!(block_on(under_way.collect::<Vec<_>>()).len(), ENCODES_MAX - 1);
}
