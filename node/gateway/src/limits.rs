//! Every bound of the door, with the arithmetic that sets it. What one request may hold in memory is
//! `BODY_PIECE_LEN_BYTES_MAX` and hyper's buffer, or one XML document, whatever the client sends.

use std::time::Duration;
use strongroom_types::limits::{DELETE_KEYS_MAX, OBJECT_KEY_LEN_BYTES_MAX};

/// Connections at most; above it new ones wait in the listener's backlog.
pub const CONNECTIONS_MAX: usize = 1024;
/// Bytes that hyper buffers for one connection at most: 1024 connections hold 128 MiB.
pub const CONNECTION_BUFFER_LEN_BYTES_MAX: usize = 128 * 1024;
/// Headers of a request at most.
pub const HEADERS_MAX: usize = 128;
/// Bytes of all header names and values of a request at most. S3 takes 8 KiB; signed requests with long session
/// policies and proxies' additions are given twice that.
pub const HEADERS_LEN_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a request target at most: a key of 1024 bytes, percent-encoded three-fold, as path, and as prefix,
/// marker and token in the query.
pub const TARGET_LEN_BYTES_MAX: usize = 5 * 3 * OBJECT_KEY_LEN_BYTES_MAX;
/// Query parameters at most.
pub const PARAMETERS_MAX: usize = 64;
/// Signed headers of a request at most: all of them.
pub const SIGNED_HEADERS_MAX: usize = HEADERS_MAX;
/// How long a whole request head may take, and how long a connection may rest between two requests.
pub const HEAD_READ_PATIENCE: Duration = Duration::from_secs(60);
/// How long no byte of a body may arrive.
pub const BODY_IDLE_PATIENCE: Duration = Duration::from_secs(60);
/// How long a peer may take no byte of an answer.
pub const WRITE_IDLE_PATIENCE: Duration = Duration::from_secs(60);
/// How long connections may finish their request once shutdown was asked for.
pub const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of one piece of a body that are passed on at once. So much is hashed in some 0.5 ms, alone or with others side by side, during which its thread does nothing else.
pub const BODY_PIECE_LEN_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a refused request's body that are read and thrown away, so that the client reads the answer instead of
/// a broken connection. Beyond it the connection is closed.
pub const DISCARD_LEN_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of a chunk's head line (`hex;chunk-signature=64 hex`) at most.
pub const CHUNK_HEAD_LEN_BYTES_MAX: usize = 256;
/// Bytes of all trailers at most.
pub const TRAILERS_LEN_BYTES_MAX: usize = 2048;
/// Trailers at most.
pub const TRAILERS_MAX: usize = 8;

/// Bytes of an XML body at most: 1000 keys of 1024 bytes, doubled for escapes and tags.
pub const XML_LEN_BYTES_MAX: usize = 2 * DELETE_KEYS_MAX * OBJECT_KEY_LEN_BYTES_MAX;
/// XML bodies in memory at once at most: 16 hold 32 MB.
pub const XML_BODIES_MAX: usize = 16;
/// Elements within elements of an XML body at most.
pub const XML_DEPTH_MAX: usize = 8;
/// Elements of an XML body at most: four for each key to delete (object, key, version, tag), and the frame.
pub const XML_ELEMENTS_MAX: usize = 4 * DELETE_KEYS_MAX + 16;
/// Deletes of one DeleteObjects request in flight at most.
pub const DELETES_IN_FLIGHT_MAX: usize = 16;

/// Seconds that the clock of a client may be off.
pub const CLOCK_SKEW_SECONDS_MAX: u64 = 15 * 60;
/// Seconds that a presigned URL may be valid.
pub const PRESIGN_SECONDS_MAX: u64 = 7 * 24 * 3600;

const _: () = assert!(XML_LEN_BYTES_MAX > DELETE_KEYS_MAX * (OBJECT_KEY_LEN_BYTES_MAX + 64));
const _: () = assert!(BODY_PIECE_LEN_BYTES_MAX as u64 <= DISCARD_LEN_BYTES_MAX);
