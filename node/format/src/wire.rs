//! What travels between peers: a [`Frame`] (a message and its bulk bytes), the [`EnvelopeHeader`] that carries it over a
//! byte stream, and the [`Hello`] that opens a connection.

pub mod message;

pub mod frame;

pub mod envelope;

pub mod hello;

pub use envelope::{EnvelopeHeader, FrameKind};
pub use frame::Frame;
pub use hello::Hello;
pub use message::{
    Append, DriveState, Encode, FinishFragment, FragmentAddress, FragmentReport, Free, Pong, Read, Refusal,
    Report, Request, Response, Seal, SealReport, Settle, WriteFragment,
};
