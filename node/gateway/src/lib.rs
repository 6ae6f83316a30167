//! The S3 door: requests over HTTP in, typed operations on [`store::ObjectStore`] out. Knows no slab and no drive.
//!
//! Every byte of a request is checked here: signature, length, digests, checksums, names, conditions. An object is
//! committed only after its body was verified to the end, and one request holds bounded memory whatever the client sends.
//!
//! Routing, signatures, bodies and XML are this crate's own on hyper. The crate `s3s` was to do them, but each hole that
//! was found in it lies between the connection and the typed operation, so closing them all leaves nothing of it in use
//! but its XML, which loses keys in CDATA and writes control characters raw.
//!
//! **Invariant** Nothing here reads a clock or draws randomness except through `strongroom-env`; [`serve`] alone knows
//! sockets.
//!
//! Modules stand lowest first and import only from those above.

pub mod limits;
pub mod store;
pub mod error;
pub mod percent;
pub mod date;
pub mod xml;
pub mod checksum;
pub mod head;
pub mod auth;
pub mod tags;
pub mod body;
pub mod conditions;
pub mod range;
pub mod attributes;
pub mod operation;
pub mod door;
pub mod serve;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use auth::{Caller, Credential, Credentials, Secret};
pub use door::{Body, Door, DoorConfig, DoorParts, Observer, Record};
pub use serve::{ServeParts, connection, serve};
