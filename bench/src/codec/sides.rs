//! Whoever encodes: Strongroom's codec on one of its engines, and others, behind one trait.

use crate::codec::isal::{Isal, Tables};
use crate::codec::stripe::{Layout, Shard, Stripe};
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
    /// Does it once.
    fn run(&mut self, operation: Operation, stripe: &mut Stripe);
    /// Whether it does what it should; with a stripe whose parity is right.
    fn check(&mut self, stripe: &mut Stripe) -> anyhow::Result<()>;
}

/// Data shards that are lost in a reconstruction, the first ones.
fn lost_count(codec: &Codec) -> usize {
    codec.data_count().min(codec.parity_count())
}

/// As many more shards beside a stripe of this codec.
fn scratch(codec: &Codec, count: usize, layout: Layout) -> Vec<Shard> {
    (0..count).map(|index| layout.shard(codec.shard_count() + index)).collect()
}

/// Slices on the stack.
fn slices<'a>(buffers: impl Iterator<Item = &'a Shard>) -> [&'a [u8]; SHARD_COUNT_MAX] {
    let mut slices: [&[u8]; SHARD_COUNT_MAX] = [&[]; SHARD_COUNT_MAX];
    slices.iter_mut().zip(buffers).for_each(|(slice, buffer)| *slice = buffer);
    slices
}

fn slices_mut<'a>(buffers: impl Iterator<Item = &'a mut Shard>) -> [&'a mut [u8]; SHARD_COUNT_MAX] {
    let mut slices: [&mut [u8]; SHARD_COUNT_MAX] = Default::default();
    slices.iter_mut().zip(buffers).for_each(|(slice, buffer)| *slice = buffer);
    slices
}

/// Strongroom's.
pub struct Own {
    codec: Codec,
    scratch: Vec<Shard>,
    sums: Vec<Vec<u32>>,
    /// What the codec is told of the caches when it encodes.
    write: Write,
    verdict: bool,
}

impl Own {
    pub fn new(
        engine: Engine,
        (data_count, parity_count): (usize, usize),
        layout: Layout,
        cold: bool,
    ) -> anyhow::Result<Self> {
        let codec = Codec::with_engine(data_count, parity_count, MatrixId::NormalisedCauchy, engine)?;
        let scratch = scratch(&codec, lost_count(&codec), layout);
        let sums = vec![vec![0; layout.len_bytes.div_ceil(BLOCK.get())]; codec.shard_count()];
        let write = if cold { Write::Stream } else { Write::Replace };
        Ok(Self { codec, scratch, sums, write, verdict: true })
    }
}

impl Side for Own {
    fn name(&self) -> String {
        self.codec.engine().name().into()
    }

    fn can(&self, _: Operation) -> bool {
        true
    }

    fn run(&mut self, operation: Operation, Stripe { data, parity }: &mut Stripe) {
        let (k, m) = (self.codec.data_count(), self.codec.parity_count());
        let inputs = slices(data.iter());
        let done = match operation {
            Operation::Encode => {
                let mut outputs = slices_mut(parity.iter_mut());
                self.codec.encode_with(&inputs[..k], &mut outputs[..m], self.write)
            }
            Operation::Verify => {
                let all = slices(data.iter().chain(parity.iter()));
                self.codec.verify(&all[..k + m]).map(|verdict| self.verdict = verdict)
            }
            Operation::Reconstruct => {
                let lost = lost_count(&self.codec);
                let all = slices(data.iter().chain(parity.iter()));
                let mut present: [(usize, &[u8]); SHARD_COUNT_MAX] = [(0, &[]); SHARD_COUNT_MAX];
                for (place, index) in present.iter_mut().zip(lost..lost + k) {
                    *place = (index, all[index]);
                }
                let mut wanted: [(usize, &mut [u8]); SHARD_COUNT_MAX] = Default::default();
                for (place, (index, buffer)) in wanted.iter_mut().zip(self.scratch.iter_mut().enumerate()) {
                    *place = (index, buffer);
                }
                self.codec.reconstruct_some(&present[..k], &mut wanted[..lost])
            }
            Operation::EncodeAndSum => {
                let mut outputs = slices_mut(parity.iter_mut());
                let mut sums: [&mut [u32]; SHARD_COUNT_MAX] = Default::default();
                sums.iter_mut().zip(&mut self.sums).for_each(|(slice, sums)| *slice = sums);
                self.codec.encode_summed(&inputs[..k], &mut outputs[..m], BLOCK, &mut sums[..k + m])
            }
        };
        done.expect("shapes fit");
    }

    fn check(&mut self, stripe: &mut Stripe) -> anyhow::Result<()> {
        let expected: Vec<Vec<u8>> = stripe.parity.iter().map(|shard| shard.to_vec()).collect();
        for operation in [Operation::Encode, Operation::EncodeAndSum] {
            stripe.parity.iter_mut().for_each(|shard| shard.fill(0xEE));
            self.run(operation, stripe);
            let same = stripe.parity.iter().zip(&expected).all(|(found, expected)| found[..] == expected[..]);
            ensure!(same, "{} encodes differently", self.name());
        }
        for (shard, sums) in stripe.slices().into_iter().zip(&self.sums) {
            let expected: Vec<u32> =
                shard.chunks(BLOCK.get()).map(strongroom_format::checksum::crc32c).collect();
            ensure!(*sums == expected, "{} sums differently", self.name());
        }
        self.run(Operation::Reconstruct, stripe);
        let same = stripe.data.iter().zip(&self.scratch).all(|(data, made)| data[..] == made[..]);
        ensure!(same, "{} reconstructs something else", self.name());
        self.run(Operation::Verify, stripe);
        ensure!(self.verdict, "{} rejects good shards", self.name());
        let last = stripe.len_bytes() - 1;
        stripe.data[0][last] ^= 1;
        self.run(Operation::Verify, stripe);
        stripe.data[0][last] ^= 1;
        ensure!(!self.verdict, "{} accepts a wrong bit", self.name());
        self.verdict = true;
        Ok(())
    }
}

/// ISA-L, with the same matrix: its parity is the same.
pub struct OfIsal<'a> {
    isal: &'a Isal,
    codec: Codec,
    encoding: Tables,
    decoding: Tables,
    scratch: Vec<Shard>,
    sums: Vec<u32>,
    verdict: bool,
}

impl<'a> OfIsal<'a> {
    pub fn new(
        isal: &'a Isal,
        (data_count, parity_count): (usize, usize),
        layout: Layout,
    ) -> anyhow::Result<Self> {
        let codec = Codec::new(data_count, parity_count, MatrixId::NormalisedCauchy)?;
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
        let scratch = scratch(&codec, parity_count, layout);
        Ok(Self {
            isal,
            encoding,
            decoding,
            scratch,
            sums: vec![0; codec.shard_count()],
            codec,
            verdict: true,
        })
    }
}

impl Side for OfIsal<'_> {
    fn name(&self) -> String {
        "ISA-L".into()
    }

    fn can(&self, _: Operation) -> bool {
        true
    }

    fn run(&mut self, operation: Operation, Stripe { data, parity }: &mut Stripe) {
        let inputs = data.iter().map(|shard| &shard[..]);
        match operation {
            Operation::Encode => {
                self.isal.multiply(&self.encoding, inputs, parity.iter_mut().map(|shard| &mut shard[..]));
            }
            Operation::Verify => {
                let outputs = self.scratch.iter_mut().map(|shard| &mut shard[..]);
                self.isal.multiply(&self.encoding, inputs, outputs);
                self.verdict = self.scratch.iter().zip(parity).all(|(made, parity)| made[..] == parity[..]);
            }
            Operation::Reconstruct => {
                let lost = lost_count(&self.codec);
                let all = slices(data.iter().chain(parity.iter()));
                let inputs = all[lost..lost + self.codec.data_count()].iter().copied();
                let outputs = self.scratch[..lost].iter_mut().map(|shard| &mut shard[..]);
                self.isal.multiply(&self.decoding, inputs, outputs);
            }
            Operation::EncodeAndSum => {
                self.isal.multiply(&self.encoding, inputs, parity.iter_mut().map(|shard| &mut shard[..]));
                for (sum, shard) in self.sums.iter_mut().zip(data.iter().chain(parity.iter())) {
                    *sum = self.isal.crc32c(shard);
                }
            }
        }
    }

    fn check(&mut self, stripe: &mut Stripe) -> anyhow::Result<()> {
        let expected: Vec<Vec<u8>> = stripe.parity.iter().map(|shard| shard.to_vec()).collect();
        self.run(Operation::EncodeAndSum, stripe);
        let same = stripe.parity.iter().zip(&expected).all(|(found, expected)| found[..] == expected[..]);
        ensure!(same, "ISA-L encodes differently");
        let sums: Vec<u32> = stripe.slices().into_iter().map(strongroom_format::checksum::crc32c).collect();
        ensure!(self.sums == sums, "ISA-L sums differently");
        self.run(Operation::Verify, stripe);
        ensure!(self.verdict, "ISA-L rejects good shards");
        self.run(Operation::Reconstruct, stripe);
        let mut pairs = stripe.data.iter().zip(&self.scratch).take(lost_count(&self.codec));
        ensure!(pairs.all(|(data, made)| data[..] == made[..]), "ISA-L reconstructs something else");
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

    fn run(&mut self, operation: Operation, Stripe { data, parity }: &mut Stripe) {
        let (k, m) = (self.codec.data_shard_count(), self.codec.parity_shard_count());
        match operation {
            Operation::Encode => {
                let (inputs, mut outputs) = (slices(data.iter()), slices_mut(parity.iter_mut()));
                self.codec.encode_sep(&inputs[..k], &mut outputs[..m]).expect("shapes fit");
            }
            _ => {
                let all = slices(data.iter().chain(parity.iter()));
                let right = self.codec.verify_with_buffer(&all[..k + m], &mut self.scratch);
                assert!(right.expect("shapes fit"));
            }
        }
    }

    fn check(&mut self, stripe: &mut Stripe) -> anyhow::Result<()> {
        let expected: Vec<Vec<u8>> = stripe.parity.iter().map(|shard| shard.to_vec()).collect();
        self.run(Operation::Encode, stripe);
        let same = stripe.parity.iter().zip(&expected).all(|(found, expected)| found[..] == expected[..]);
        ensure!(same, "reed-solomon-erasure encodes another parity than the Vandermonde matrix");
        Ok(())
    }
}

/// The crate `reed-solomon-simd`, another code.
pub struct Simd {
    encoder: ReedSolomonEncoder,
}

impl Simd {
    pub fn new((data_count, parity_count): (usize, usize), len_bytes: usize) -> anyhow::Result<Self> {
        Ok(Self { encoder: ReedSolomonEncoder::new(data_count, parity_count, len_bytes)? })
    }
}

impl Side for Simd {
    fn name(&self) -> String {
        "rs-simd".into()
    }

    fn can(&self, operation: Operation) -> bool {
        operation == Operation::Encode
    }

    fn run(&mut self, _: Operation, Stripe { data, parity }: &mut Stripe) {
        for shard in data.iter() {
            self.encoder.add_original_shard(&shard[..]).expect("shapes fit");
        }
        let made = self.encoder.encode().expect("shapes fit");
        for (shard, made) in parity.iter_mut().zip(made.recovery_iter()) {
            shard.copy_from_slice(made);
        }
    }

    /// Its parity is its own; its decoder gives the data back.
    fn check(&mut self, stripe: &mut Stripe) -> anyhow::Result<()> {
        let Stripe { data, parity } = stripe;
        let layout = Layout { len_bytes: data[0].len(), apart_bytes: 0 };
        let own_parity = (0..parity.len()).map(|index| layout.shard(index)).collect();
        let mut own = Stripe { data: std::mem::take(data), parity: own_parity };
        self.run(Operation::Encode, &mut own);
        let lost = own.data.len().min(own.parity.len());
        let indexed = |shards: &[Shard]| -> Vec<(usize, Vec<u8>)> {
            shards.iter().map(|shard| shard.to_vec()).enumerate().collect()
        };
        let (present, recovery) = (indexed(&own.data).split_off(lost), indexed(&own.parity));
        let made = reed_solomon_simd::decode(own.data.len(), own.parity.len(), present, recovery)?;
        let right =
            (0..lost).all(|index| made.get(&index).is_some_and(|made| made[..] == own.data[index][..]));
        *data = own.data;
        ensure!(right, "reed-solomon-simd does not give the data back");
        Ok(())
    }
}
