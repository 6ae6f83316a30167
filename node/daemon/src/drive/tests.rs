//! The drive engine on devices in memory: without faults, with every fault at every step, with power cut at every step, and against
//! a model.

mod crash;
mod cut;
mod devices;
mod faults;
mod format;
mod model;
mod power;
mod raise;
mod requests;
mod restart;
mod support;
mod verify;
