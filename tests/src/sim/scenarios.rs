//! Stories with a name: what chance brings too seldom ([`schedules`], [`within`], [`space`], [`drains`], [`joins`]), and what lies beyond the promise ([`beyond`]).

pub mod schedules;
pub mod stage;
pub mod within;
pub mod space;
pub mod drains;
pub mod joins;
pub mod beyond;

use super::draws::Draws;
use super::faults::Schedule;
use super::workload::Clients;
use futures::future::BoxFuture;
use std::sync::Arc;
use strongroom_types::{NodeId, ZoneId};

/// A story. The seed decides everything that it leaves open.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What happens, and what must be seen.
    pub what: &'static str,
    /// How.
    pub story: Story,
}

/// What happens instead of faults drawn from the seed.
pub enum Story {
    /// These faults, with clients at work, and then everything must come back.
    Faults(fn(&[(NodeId, ZoneId)], &mut Draws) -> Schedule),
    /// This, step by step, within the promise: what it gives is wrong, and then everything must come back.
    Within(Told),
    /// The same, in a cluster that is furnished so.
    Furnished(Furniture, Told),
    /// This, step by step, beyond the promise: what it gives is wrong. Nothing has to come back.
    Beyond(Told),
}

/// What is other than usual about machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Furniture {
    /// The first zone has a node more than the others.
    pub spare_node: bool,
    /// Drives of each node.
    pub drives_per_node: usize,
    /// Bytes of each.
    pub drive_len_bytes: u64,
}

/// A story that needs to see what happens as it goes on.
pub type Told = for<'a> fn(&'a Arc<Clients>) -> BoxFuture<'a, Vec<String>>;

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario { name: "calm", what: "nothing fails", story: Story::Faults(|_, _| Schedule::default()) },
    Scenario {
        name: "writer-silent-and-alive",
        what: "one node after the other is heard by none and hears all, longer than silence is borne",
        story: Story::Faults(schedules::writer_silent),
    },
    Scenario {
        name: "zone-cut-for-long",
        what: "each zone in turn is cut off longer than silence is borne",
        story: Story::Faults(schedules::zone_cut),
    },
    Scenario {
        name: "harsh-network",
        what: "of all messages many are lost or late, and zones are cut off",
        story: Story::Faults(schedules::harsh_network),
    },
    Scenario {
        name: "drives-die-one-by-one",
        what: "the drives of a zone die, and their nodes go on",
        story: Story::Faults(schedules::drives_die),
    },
    Scenario {
        name: "killed-at-every-step",
        what: "nodes are killed after few and more polls, while they start and while they serve",
        story: Story::Faults(schedules::killed_at_every_step),
    },
    Scenario {
        name: "killed-while-messages-are-slow",
        what: "many messages are slow, so that much is half done whenever one node after the other is killed",
        story: Story::Faults(schedules::killed_while_slow),
    },
    Scenario {
        name: "holders-swap-silence",
        what: "one holder is late, so that its slab is sealed, and at once it is the only one who answers",
        story: Story::Faults(schedules::holders_swap_silence),
    },
    Scenario {
        name: "slow-zone-dies",
        what: "a zone is so slow that conversions take long, and then its drives are lost",
        story: Story::Faults(schedules::slow_zone_dies),
    },
    Scenario {
        name: "voter-forgets",
        what: "two zones acknowledge, one loses its state directories, the other its power, the third was cut off: nobody says that there is nothing",
        story: Story::Within(|clients| Box::pin(within::voter_forgets(clients))),
    },
    Scenario {
        name: "voter-forgets-again-and-again",
        what: "a zone loses its state directories 21 times in quick succession: afterwards its voice counts where another zone is away",
        story: Story::Within(|clients| Box::pin(within::voter_forgets_again_and_again(clients))),
    },
    Scenario {
        name: "drives-come-back-old",
        what: "the drives of a zone come back older, their nodes having been started since: the nodes say so, and everything is readable",
        story: Story::Within(|clients| Box::pin(within::drives_come_back_old(clients))),
    },
    Scenario {
        name: "zones-wiped-in-turn",
        what: "the drives of one zone after the other come back blank: what was on them is made again before the next, and everything is readable",
        story: Story::Within(|clients| Box::pin(within::zones_wiped_in_turn(clients))),
    },
    Scenario {
        name: "filled-and-emptied",
        what: "a cluster is filled, emptied and filled again, five times: in the end it takes the space that it took at first",
        story: Story::Within(|clients| Box::pin(space::filled_and_emptied(clients))),
    },
    Scenario {
        name: "uploads-take-long",
        what: "slabs are sealed while uploads into them are not committed: none is refused, and all can be read",
        story: Story::Within(|clients| Box::pin(space::uploads_take_long(clients))),
    },
    Scenario {
        name: "read-while-compacted",
        what: "an object is read so slowly that a slab of it is compacted and freed in between: it is read to its end",
        story: Story::Within(|clients| Box::pin(space::read_while_compacted(clients))),
    },
    Scenario {
        name: "rot-and-a-wiped-node",
        what: "blocks of all drives of a zone rot, and in half of the runs the drives of a node in another come back blank: all of it is found and made again",
        story: Story::Within(|clients| Box::pin(within::rot_and_a_wiped_node(clients))),
    },
    Scenario {
        name: "joined-drained-dismissed",
        what: "a blank node joins and gets its share; one that was there before is emptied, dismissed while it lives, and taken away: nothing changes by that",
        story: Story::Furnished(drains::SMALL, |clients| Box::pin(joins::joined_drained_dismissed(clients))),
    },
    Scenario {
        name: "drained-node",
        what: "a node is emptied while all nodes start anew in between: it can be taken out, nothing is lost, and it is used again once its drain is ended",
        story: Story::Furnished(drains::WITH_SPARE, |clients| Box::pin(drains::drained_node(clients))),
    },
    Scenario {
        name: "drained-drive-while-nodes-fall",
        what: "a drive is emptied, then another, then the first again, while one node after the other ends, stands still or is cut off: in the end nothing is on it",
        story: Story::Furnished(drains::TWO_DRIVES, |clients| Box::pin(drains::drained_drive(clients))),
    },
    Scenario {
        name: "rebalanced",
        what: "a node is emptied and comes back blank, as one that joins: it gets its share from the others of its zone",
        story: Story::Furnished(drains::SMALL_WITH_SPARE, |clients| Box::pin(drains::rebalanced(clients))),
    },
    Scenario {
        name: "a-node-joins",
        what: "a blank node is killed and cut off again and again while it joins: at last it takes objects, and is given fragments of new slabs",
        story: Story::Within(|clients| Box::pin(joins::a_node_joins(clients))),
    },
    Scenario {
        name: "a-voter-never-returns",
        what: "one or all nodes of a zone are gone for good: their seats move, one more node falls, and writes go on",
        story: Story::Within(|clients| Box::pin(joins::a_voter_never_returns(clients))),
    },
    Scenario {
        name: "a-node-is-dismissed",
        what: "a node that holds fragments cannot be dismissed while it lives; once it is dead it is, its seats go to others at once, and it is refused when it comes back",
        story: Story::Beyond(|clients| Box::pin(joins::a_node_is_dismissed(clients))),
    },
    Scenario {
        name: "what-only-a-dead-node-has",
        what: "three nodes of six lose their drives, and one that has what they cannot be made again without is dead: it is not dismissed, comes back, and all is whole",
        story: Story::Beyond(|clients| Box::pin(joins::what_only_a_dead_node_has(clients))),
    },
    Scenario {
        name: "rot-of-all-copies",
        what: "every copy of an acknowledged row rots before its slab is sealed: an alarm, errors, and the rows behind it are readable",
        story: Story::Beyond(|clients| Box::pin(beyond::rot_of_all_copies(clients))),
    },
    Scenario {
        name: "both-holders-erased",
        what: "a zone is away, objects are acknowledged by the two others, and all drives of these are lost: an alarm and errors",
        story: Story::Beyond(|clients| Box::pin(beyond::both_holders_erased(clients))),
    },
    Scenario {
        name: "both-holders-stale",
        what: "a zone is away, objects are acknowledged by the two others, and all drives of these come back older: an alarm that acknowledged bytes are lost, and errors",
        story: Story::Beyond(|clients| Box::pin(beyond::both_holders_stale(clients))),
    },
    Scenario {
        name: "both-holders-known-to-be-stale",
        what: "the same, and all nodes were started in between: each node says that its drive came back old",
        story: Story::Beyond(|clients| Box::pin(beyond::both_holders_known_to_be_stale(clients))),
    },
    Scenario {
        name: "flushes-lie-in-two-zones",
        what: "a zone is away, the drives of the others lie about flushes, and power fails everywhere: an alarm and errors where something is lost",
        story: Story::Beyond(|clients| Box::pin(beyond::flushes_lie(clients))),
    },
    Scenario {
        name: "two-voters-forget",
        what: "two of three voters of every group lose their state directories: an alarm, nothing is answered, nothing is acknowledged any more",
        story: Story::Beyond(|clients| Box::pin(beyond::two_voters_forget(clients))),
    },
];

/// Whether an alarm says that acknowledged bytes are lost or in doubt.
pub fn is_loss(alarm: &str) -> bool {
    strongroom::alarms::is_damage(alarm)
}
