//! Bodies coming in: bounded pieces, unwrapped from aws-chunked, with everything the client said of them verified before
//! the end is reported.

pub mod chunked;
pub mod declared;
pub mod incoming;
pub mod reader;

pub use declared::Declared;
pub use incoming::Incoming;
pub use reader::{BodyReader, Verified};

#[cfg(test)]
mod tests;
