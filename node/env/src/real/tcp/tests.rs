//! Real loopback sockets, under tokio's runtime and under tokio-uring's.

mod calls;
mod strangers;
mod world;
