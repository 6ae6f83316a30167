//! Who asks: keys, signatures, and nothing else. No request passes without a valid SigV4 signature.

pub mod credentials;
pub mod signature;
pub mod payload;
pub mod verify;

pub use credentials::{Caller, Credential, Credentials, Secret};
pub use payload::Payload;
pub use signature::{ChunkSigner, Scope};
pub use verify::{Authenticated, authenticate};

#[cfg(test)]
pub(crate) mod tests;
