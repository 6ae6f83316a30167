//! The cold tier: archive objects in S3 or Glacier, and the S3 client that reaches them.
//!
//! A sealed cold slab becomes one archive object (64 to 256 MiB, self-describing: footer index, checksums, and a copy of
//! its manifest in the Standard class), grouped by the tenant's retention class. Keys do not change: the slab table
//! remembers where the slab went, and a read fetches a range of the archive object. One mail per archive object would cost
//! more a month than S3 Standard for small mail, and a bulk restore would spend weeks on requests: hence slabs.
//!
//! This crate stands alone because the SDK is the heaviest thing to build in the workspace. It decides nothing: which slab
//! is tiered, and when, is policy in `strongroom-core`; what the bytes of an archive object mean is `strongroom-format`.
//!
//! What exists: [`client`], over plain HTTP. Archive objects, restore jobs and TLS are not written yet, and nothing here
//! pretends to be them.

pub mod limits;

pub mod client;

pub use client::{Endpoint, EndpointError, connect};
