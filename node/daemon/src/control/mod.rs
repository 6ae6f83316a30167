//! The control socket: HTTP/1.1 with JSON on a Unix socket, for operators, jobs and `strongroom status`.
//!
//! ```text
//! GET  /v1/status         what this node is, has and sees        -> 200 NodeStatus
//! GET  /v1/ready          for a load balancer                    -> 200, or 503 with the reasons
//! POST /v1/buckets/NAME?class=mail|config                        -> 201
//! POST /v1/jobs/seal      seal the slabs that this node writes   -> 202
//! POST /v1/jobs/convert   convert sealed slabs of the groups that this node leads, whatever their age -> 202
//! ```
//! Everything else is answered by a problem body (RFC 9457). The socket has mode 0600.

pub mod client;
pub mod server;
