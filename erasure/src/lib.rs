//! The pure Reed-Solomon codec of Strongroom: bytes in, bytes out. It knows of shards, not of
//! drives, slabs, files or threads.
//!
//! # In two minutes
//! RS(k, m) turns `k` *data shards* of equal length into `m` *parity shards* of that length; any `k`
//! of the `k + m` give all of them back. Shard indices run from 0: data `0..k`, parity `k..k + m`.
//! Everything happens position by position: byte `p` of a shard depends on the bytes at `p` of the
//! other shards and on nothing else. Two things follow, and both have a function here: the same
//! range of `k` shards decodes to that range of a lost one ([`Codec::decode_range`]), and the sum
//! that makes a lost shard can be split among zones and added up later ([`Plan::partial_sum`]).
//!
//! ```
//! use strongroom_erasure::{Codec, MatrixId};
//!
//! let codec = Codec::new(3, 2, MatrixId::NormalisedCauchy)?;
//! let (a, b, c) = (b"immu".as_slice(), b"tabl".as_slice(), b"e.\0\0".as_slice());
//! let (mut p, mut q) = (vec![0; 4], vec![0; 4]);
//! codec.encode(&[a, b, c], &mut [&mut p, &mut q])?;
//!
//! // Shards 0 and 2 are lost; 1, 3 and 4 are at hand.
//! let mut lost = vec![0; 4];
//! codec.reconstruct_some(&[(1, b), (3, &p), (4, &q)], &mut [(0, &mut lost)])?;
//! assert_eq!(lost, a);
//! # Ok::<(), strongroom_erasure::CodecError>(())
//! ```
//!
//! A read or a repair that sees one loss pattern many times makes a [`Plan`] once and applies it
//! often: applying allocates nothing.
//!
//! # What it does not do
//! A codec cannot tell a wrong byte from a right one: a corrupt source silently spoils all that is
//! decoded from it. **Check each shard against its checksum before it comes in here.**
//! [`Codec::verify`] only says whether a whole stripe agrees with itself, not which shard is wrong.
//!
//! # Map, lowest first
//! | module | owns |
//! |---|---|
//! | [`limits`] | how many shards a codec may have |
//! | [`off`] | which instructions are not to be used |
//! | [`field`] | GF(2^8) over 0x11D |
//! | [`matrix`] | small dense matrices over it, inversion |
//! | [`generator`] | the two generator matrices; [`MatrixId`] names them in the on-disk format |
//! | [`kernel`] | the seam to the hot loop: the [`Kernel`](kernel::Kernel) trait and the kernels |
//! | [`engine`] | which kernel this machine gets |
//! | [`crc32c`](mod@crc32c) | the checksum of blocks |
//! | [`md5`] | tags of several objects side by side |
//! | [`plan`] | the coefficients of one loss pattern, ready to use again and again |
//! | [`codec`] | [`Codec`]: encode, verify, reconstruct |
//!
//! # Sources
//! - I. S. Reed, G. Solomon, *Polynomial Codes over Certain Finite Fields*, 1960.
//! - J. Blömer et al., *An XOR-Based Erasure-Resilient Coding Scheme*, 1995: Cauchy matrices as generators.
//! - J. S. Plank, L. Xu, *Optimizing Cauchy Reed-Solomon Codes for Fault-Tolerant Network Storage
//!   Applications*, 2006: scaling rows and columns of a Cauchy matrix to make it cheap.
//! - J. S. Plank, Y. Ding, *Note: Correction to the 1997 Tutorial on Reed-Solomon Coding*, 2005: why a
//!   Vandermonde matrix must be brought to systematic form before it is used.
//! - J. S. Plank, K. M. Greenan, E. L. Miller, *Screaming Fast Galois Field Arithmetic Using Intel SIMD
//!   Instructions*, 2013: multiplication by table look-up.

pub mod limits;

mod error;
pub mod off;

pub mod field;
pub mod matrix;

pub mod generator;
pub mod kernel;
mod shards;

pub mod engine;

pub mod crc32c;
pub mod md5;

pub mod plan;

pub mod codec;

pub use codec::Codec;
pub use engine::Engine;
pub use error::CodecError;
pub use generator::MatrixId;
pub use kernel::Write;
pub use plan::{Plan, add_into};
