//! Whole behaviour of the codec, seen from outside.

mod mds;
mod oracle;
mod partial_sums;
mod patterns;
mod ranges;
mod refused;
mod stripe;
mod summed;
mod update;
