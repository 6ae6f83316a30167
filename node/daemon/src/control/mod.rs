//! The control socket: HTTP/1.1 with JSON on a Unix socket, for operators, their tools and `strongroom`'s own commands.
//!
//! What there is, [`routes`] lists, and the node describes itself at `GET /v1/openapi.json`. Everything that is refused is answered by a problem body
//! (RFC 9457) and changes nothing. The socket has mode 0600 and takes its own user and root. Metrics and health are served over TCP as well, where
//! `node.metrics_listen` says so; nothing there changes anything. This is the shell of a real process: it is not simulated, and reads the machine's clock
//! for its own timeouts.

pub mod problem;
mod input;
pub mod jobs;
pub mod drains;
pub mod nodes;
mod status;
mod events;
mod metrics;
mod routes;
pub mod client;
pub mod server;

pub use events::EventView;
