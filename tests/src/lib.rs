//! Everything that tests the node as a whole. [`sim`] is the world in one process: a cluster on simulated time, network and
//! drives, from one seed. [`faultfs`] is a fault device for real processes, [`soak`] a cluster of those under load and faults.

pub mod sim;

pub mod faultfs;

pub mod soak;
