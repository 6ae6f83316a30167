//! Whoever encodes: Strongroom's codec on one of its engines, and others, behind one trait.

use crate::codec::isal::{Isal, Tables};
use crate::codec::stripe::{Layout, Parity, Stripe, lost_count};
use anyhow::ensure;
use reed_solomon_erasure::galois_8::ReedSolomon;
use reed_solomon_simd::ReedSolomonEncoder;
use serde::Serialize;
use std::num::NonZeroUsize;
use strongroom_erasure::limits::SHARD_COUNT_MAX;
use strongroom_erasure::{Codec, Engine, MatrixId, Write};

/// Bytes that a checksum is over, in the formats.
const BLOCK: NonZeroUsize = NonZeroUsize::new(strongroom_types::units::BLOCK_LEN_BYTES as usize).unwrap();

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// All parity.
    Encode,
    /// Whether parity is that of the data.
    Verify,
    /// As many data shards as can be lost.
    Reconstruct,
    /// All parity, and the CRC32C of every block of every shard.
    EncodeAndSum,
}

impl Operation {
    /// What it does with parity.
    pub fn parity(self) -> Parity {
        match self {
            Self::Encode | Self::EncodeAndSum => Parity::Written,
            Self::Verify | Self::Reconstruct => Parity::Read,
        }
    }

    /// All of them.
    pub const ALL: [Self; 4] = [Self::Encode, Self::Verify, Self::Reconstruct, Self::EncodeAndSum];

    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Encode => "encode",
            Self::Verify => "verify",
            Self::Reconstruct => "reconstruct",
            Self::EncodeAndSum => "encode+sum",
        }
    }
}

/// One codec.
pub trait Side {
    fn name(&self) -> String;
    /// Whether it has such an operation.
    fn can(&self, operation: Operation) -> bool;
    /// The codec whose parity a stripe for it has to have.
    fn matrix(&self) -> MatrixId {
        MatrixId::NormalisedCauchy
    }
    /// Does it once, with a stripe whose parity is as the operation wants it.
    fn run(&mut self, operation: Operation, stripe: &mut Stripe<'_>);
    /// Whether it does what it should.
    fn check(&mut self, layout: Layout) -> anyhow::Result<()>;
}

/// Has `work` done with a stripe of its own.
fn with_stripe<T>(
    codec: &Codec,
    layout: Layout,
    parity: Parity,
    work: impl FnOnce(&mut Stripe<'_>) -> T,
) -> T {
    let mut arena = layout.arena(codec.shard_count());
    work(&mut Stripe::new(codec, layout, parity, &mut arena, 7))
}

/// Whether `run` writes the parity that `codec` makes.
fn encodes(codec: &Codec, layout: Layout, run: impl FnOnce(&mut Stripe<'_>)) -> bool {
    with_stripe(codec, layout, Parity::Written, |stripe| {
        let expected: Vec<Vec<u8>> = stripe.parity.iter().map(|shard| shard.to_vec()).collect();
        stripe.parity.iter_mut().for_each(|shard| shard.fill(0xEE));
        run(stripe);
        stripe.parity.iter().zip(&expected).all(|(found, expected)| **found == expected[..])
    })
}

/// The sums of all shards, by blocks of this length.
fn sums_of(stripe: &Stripe<'_>, block_len_bytes: usize) -> Vec<Vec<u32>> {
    let shards = stripe.data.iter().copied().chain(stripe.parity.iter().map(|shard| &**shard));
    shards.map(|shard| shard.chunks(block_len_bytes).map(::crc32c::crc32c).collect()).collect()
}

/// Strongroom's.
pub struct Own<'a> {
    codec: Codec,
    wanted: Vec<(usize, &'a mut [u8])>,
    sums: Vec<Vec<u32>>,
    /// What the codec is told of the caches when it encodes.
    write: Write,
    verdict: bool,
}

impl<'a> Own<'a> {
    /// `scratch` has room for as many shards as parity has.
    pub fn new(codec: Codec, layout: Layout, write: Write, scratch: &'a mut [u8]) -> Self {
        let wanted = layout.shards(scratch, codec.shard_count());
        let wanted = wanted.into_iter().take(lost_count(&codec)).enumerate().collect();
        let sums = vec![vec![0; layout.len_bytes.div_ceil(BLOCK.get())]; codec.shard_count()];
        Self { codec, wanted, sums, write, verdict: true }
    }
}

impl Side for Own<'_> {
    fn name(&self) -> String {
        let told = if self.write == Write::Stream { ", told" } else { "" };
        format!("{}{told}", self.codec.engine().name())
    }

    fn can(&self, operation: Operation) -> bool {
        // What it is told matters to encoding alone.
        self.write == Write::Replace || operation == Operation::Encode
    }

    fn run(&mut self, operation: Operation, stripe: &mut Stripe<'_>) {
        let done = match operation {
            Operation::Encode => self.codec.encode_with(&stripe.data, &mut stripe.parity, self.write),
            Operation::Verify => self.codec.verify(&stripe.all).map(|verdict| self.verdict = verdict),
            Operation::Reconstruct => self.codec.reconstruct_some(&stripe.sources, &mut self.wanted),
            Operation::EncodeAndSum => {
                let mut sums: [(usize, &mut [u32]); SHARD_COUNT_MAX] = Default::default();
                sums.iter_mut()
                    .zip(self.sums.iter_mut().enumerate())
                    .for_each(|(place, (index, sums))| *place = (index, sums));
                let mut wanted: [(usize, &mut [u8]); SHARD_COUNT_MAX] = Default::default();
                let parity = (self.codec.data_count()..).zip(&mut stripe.parity);
                wanted.iter_mut().zip(parity).for_each(|(place, (index, bytes))| *place = (index, bytes));
                let (wanted, sums) =
                    (&mut wanted[..self.codec.parity_count()], &mut sums[..self.codec.shard_count()]);
                self.codec.encode_summed(&stripe.data, wanted, BLOCK, sums)
            }
        };
        done.expect("shapes fit");
    }

    fn check(&mut self, layout: Layout) -> anyhow::Result<()> {
        let codec = Codec::with_engine(
            self.codec.data_count(),
            self.codec.parity_count(),
            self.matrix(),
            Engine::scalar(),
        )?;
        let own = [Operation::Encode, Operation::EncodeAndSum].into_iter().filter(|one| self.can(*one));
        for operation in own.collect::<Vec<_>>() {
            let right = encodes(&codec, layout, |stripe| self.run(operation, stripe));
            ensure!(right, "{} encodes differently", self.name());
        }
        if !self.can(Operation::EncodeAndSum) {
            return Ok(());
        }
        let sums = with_stripe(&codec, layout, Parity::Written, |stripe| sums_of(stripe, BLOCK.get()));
        ensure!(self.sums == sums, "{} sums differently", self.name());
        let right = with_stripe(&codec, layout, Parity::Read, |stripe| {
            self.run(Operation::Reconstruct, stripe);
            self.wanted.iter().all(|(index, made)| **made == *stripe.all[*index])
        });
        ensure!(right, "{} reconstructs something else", self.name());
        for (parity, expected) in [(Parity::Wrong, false), (Parity::Read, true)] {
            with_stripe(&codec, layout, parity, |stripe| self.run(Operation::Verify, stripe));
            ensure!(self.verdict == expected, "{} finds {parity:?} {}", self.name(), self.verdict);
        }
        Ok(())
    }
}

/// ISA-L, with the same matrix: its parity is the same.
pub struct OfIsal<'a> {
    isal: &'a Isal,
    codec: Codec,
    encoding: Tables,
    decoding: Tables,
    scratch: Vec<&'a mut [u8]>,
    sums: Vec<u32>,
    verdict: bool,
}

impl<'a> OfIsal<'a> {
    /// `scratch` has room for as many shards as parity has.
    pub fn new(isal: &'a Isal, codec: Codec, layout: Layout, scratch: &'a mut [u8]) -> anyhow::Result<Self> {
        let (data_count, parity_count) = (codec.data_count(), codec.parity_count());
        let cells: Vec<u8> =
            (data_count..codec.shard_count()).flat_map(|row| codec.generator().row(row).to_vec()).collect();
        let encoding = isal.tables(parity_count, data_count, &cells);
        let lost = lost_count(&codec);
        let present: Vec<usize> = (lost..lost + data_count).collect();
        let plan = codec.plan(&present, &(0..lost).collect::<Vec<_>>())?;
        let cell = |row, &column| plan.coefficient(row, column).expect("both are in the plan");
        let cells: Vec<u8> =
            (0..lost).flat_map(|row| present.iter().map(move |column| cell(row, column))).collect();
        let decoding = isal.tables(lost, data_count, &cells);
        let scratch = layout.shards(scratch, codec.shard_count());
        let sums = vec![0; codec.shard_count()];
        Ok(Self { isal, encoding, decoding, scratch, sums, codec, verdict: true })
    }
}

impl Side for OfIsal<'_> {
    fn name(&self) -> String {
        "ISA-L".into()
    }

    fn can(&self, _: Operation) -> bool {
        true
    }

    fn run(&mut self, operation: Operation, stripe: &mut Stripe<'_>) {
        match operation {
            Operation::Encode => self.isal.multiply(&self.encoding, &stripe.data, &mut stripe.parity),
            Operation::Verify => {
                let (data, parity) = stripe.all.split_at(self.codec.data_count());
                self.isal.multiply(&self.encoding, data, &mut self.scratch);
                self.verdict = self.scratch.iter().zip(parity).all(|(made, parity)| **made == **parity);
            }
            Operation::Reconstruct => {
                let lost = lost_count(&self.codec);
                let sources = &stripe.all[lost..lost + self.codec.data_count()];
                self.isal.multiply(&self.decoding, sources, &mut self.scratch[..lost]);
            }
            Operation::EncodeAndSum => {
                self.isal.multiply(&self.encoding, &stripe.data, &mut stripe.parity);
                let (of_data, of_parity) = self.sums.split_at_mut(stripe.data.len());
                for (sum, shard) in of_data.iter_mut().zip(&stripe.data) {
                    *sum = self.isal.crc32c(shard);
                }
                for (sum, shard) in of_parity.iter_mut().zip(&stripe.parity) {
                    *sum = self.isal.crc32c(shard);
                }
            }
        }
    }

    fn check(&mut self, layout: Layout) -> anyhow::Result<()> {
        let codec = Codec::new(self.codec.data_count(), self.codec.parity_count(), self.matrix())?;
        for operation in [Operation::Encode, Operation::EncodeAndSum] {
            let right = encodes(&codec, layout, |stripe| self.run(operation, stripe));
            ensure!(right, "ISA-L encodes differently");
        }
        let sums = with_stripe(&codec, layout, Parity::Written, |stripe| sums_of(stripe, layout.len_bytes));
        ensure!(self.sums == sums.concat(), "ISA-L sums differently");
        let right = with_stripe(&codec, layout, Parity::Read, |stripe| {
            self.run(Operation::Reconstruct, stripe);
            let mut pairs = stripe.all.iter().zip(&self.scratch).take(lost_count(&codec));
            pairs.all(|(data, made)| **data == **made)
        });
        ensure!(right, "ISA-L reconstructs something else");
        for (parity, expected) in [(Parity::Wrong, false), (Parity::Read, true)] {
            with_stripe(&codec, layout, parity, |stripe| self.run(Operation::Verify, stripe));
            ensure!(self.verdict == expected, "ISA-L finds {parity:?} {}", self.verdict);
        }
        Ok(())
    }
}

/// The crate `reed-solomon-erasure`, without its C code.
pub struct Erasure {
    codec: ReedSolomon,
    scratch: Vec<Vec<u8>>,
}

impl Erasure {
    pub fn new((data_count, parity_count): (usize, usize), len_bytes: usize) -> anyhow::Result<Self> {
        let codec = ReedSolomon::new(data_count, parity_count)?;
        Ok(Self { codec, scratch: vec![vec![0; len_bytes]; parity_count] })
    }
}

impl Side for Erasure {
    fn name(&self) -> String {
        "rs-erasure".into()
    }

    /// Its reconstruction wants owned shards, which would measure copies.
    fn can(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Encode | Operation::Verify)
    }

    fn matrix(&self) -> MatrixId {
        MatrixId::Vandermonde
    }

    fn run(&mut self, operation: Operation, stripe: &mut Stripe<'_>) {
        match operation {
            Operation::Encode => {
                self.codec.encode_sep(&stripe.data, &mut stripe.parity).expect("shapes fit");
            }
            _ => {
                let right = self.codec.verify_with_buffer(&stripe.all, &mut self.scratch);
                assert!(right.expect("shapes fit"));
            }
        }
    }

    fn check(&mut self, layout: Layout) -> anyhow::Result<()> {
        let (k, m) = (self.codec.data_shard_count(), self.codec.parity_shard_count());
        let codec = Codec::new(k, m, self.matrix())?;
        let right = encodes(&codec, layout, |stripe| self.run(Operation::Encode, stripe));
        ensure!(right, "reed-solomon-erasure encodes another parity than the Vandermonde matrix");
        let finds = with_stripe(&codec, layout, Parity::Wrong, |stripe| {
            !self.codec.verify_with_buffer(&stripe.all, &mut self.scratch).expect("shapes fit")
        });
        ensure!(finds, "reed-solomon-erasure accepts a wrong bit");
        Ok(())
    }
}

/// The crate `reed-solomon-simd`, another code.
pub struct Simd {
    profile: (usize, usize),
    encoder: ReedSolomonEncoder,
}

impl Simd {
    pub fn new(profile: (usize, usize), len_bytes: usize) -> anyhow::Result<Self> {
        Ok(Self { profile, encoder: ReedSolomonEncoder::new(profile.0, profile.1, len_bytes)? })
    }
}

impl Side for Simd {
    fn name(&self) -> String {
        "rs-simd".into()
    }

    fn can(&self, operation: Operation) -> bool {
        operation == Operation::Encode
    }

    fn run(&mut self, _: Operation, stripe: &mut Stripe<'_>) {
        for shard in &stripe.data {
            self.encoder.add_original_shard(shard).expect("shapes fit");
        }
        let made = self.encoder.encode().expect("shapes fit");
        for (shard, made) in stripe.parity.iter_mut().zip(made.recovery_iter()) {
            shard.copy_from_slice(made);
        }
    }

    /// Its parity is its own; its decoder gives the data back.
    fn check(&mut self, layout: Layout) -> anyhow::Result<()> {
        let (k, m) = self.profile;
        let codec = Codec::new(k, m, self.matrix())?;
        let lost = lost_count(&codec);
        let right = with_stripe(&codec, layout, Parity::Written, |stripe| {
            self.run(Operation::Encode, stripe);
            let present = stripe.data.iter().enumerate().skip(lost);
            let recovery = stripe.parity.iter().enumerate();
            let made = reed_solomon_simd::decode(k, m, present, recovery)?;
            let is_right = |index| made.get(&index).is_some_and(|made| made[..] == *stripe.data[index]);
            anyhow::Ok((0..lost).all(is_right))
        })?;
        ensure!(right, "reed-solomon-simd does not give the data back");
        Ok(())
    }
}
