//! Windows of fragments as they were made, each with the sums of its blocks.

use bytes::Bytes;
use std::num::NonZeroUsize;
use strongroom_erasure::Codec;
use strongroom_format::checksum;
use strongroom_format::wire::message::Target;
use strongroom_types::units::BLOCK_LEN_BYTES;

const BLOCK: NonZeroUsize = NonZeroUsize::new(BLOCK_LEN_BYTES as usize).expect("blocks have bytes");

/// A window of one fragment, whole blocks.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub bytes: Bytes,
    /// CRC32C of each block.
    pub sums: Vec<u32>,
}

impl Made {
    /// Of bytes that were not summed yet.
    pub(super) fn of(bytes: Bytes) -> Self {
        let (blocks, rest) = bytes.as_chunks::<{ BLOCK.get() }>();
        assert!(rest.is_empty(), "a window has whole blocks");
        let sums = blocks.iter().map(|block| checksum::crc32c(block)).collect();
        Self { bytes, sums }
    }
}

/// The targets' windows, from the windows of the k slices: slices as they are, parity computed. Each byte is summed as it is there for the parity anyway.
pub(super) fn from_slices(codec: &Codec, data: &[Bytes], targets: &[Target]) -> Vec<Made> {
    let window = data.first().map_or(0, Bytes::len);
    let indices = || targets.iter().map(|target| usize::from(target.fragment.get()));
    let of_parity = indices().filter(|index| *index >= codec.data_count());
    let mut parity: Vec<(usize, Vec<u8>)> = of_parity.map(|index| (index, vec![0; window])).collect();
    let mut sums: Vec<Vec<u32>> = indices().map(|_| vec![0; window / BLOCK]).collect();
    {
        let inputs: Vec<&[u8]> = data.iter().map(|bytes| &bytes[..]).collect();
        let mut wanted: Vec<(usize, &mut [u8])> =
            parity.iter_mut().map(|(index, bytes)| (*index, &mut bytes[..])).collect();
        let mut places: Vec<(usize, &mut [u32])> =
            indices().zip(sums.iter_mut().map(Vec::as_mut_slice)).collect();
        codec
            .encode_summed(&inputs, &mut wanted, BLOCK, &mut places)
            .expect("k windows of one length, of whole blocks; targets were checked to be distinct");
    }
    let mut parity = parity.into_iter();
    let bytes = indices().map(|index| match data.get(index) {
        Some(slice) => slice.clone(),
        None => Bytes::from(parity.next().expect("one for each target that is parity").1),
    });
    bytes.zip(sums).map(|(bytes, sums)| Made { bytes, sums }).collect()
}

#[cfg(test)]
mod tests {
    use super::{Made, from_slices};
    use bytes::Bytes;
    use strongroom_erasure::{Codec, MatrixId};
    use strongroom_format::wire::message::Target;
    use strongroom_types::{DriveId, FragmentIndex, NodeId};

    #[test]
    fn windows_of_slices_are_theirs_and_their_parity_with_the_sums_of_both() {
        let codec = Codec::new(3, 3, MatrixId::NormalisedCauchy).unwrap();
        let data: Vec<Bytes> = (1..=3usize)
            .map(|slice| (0..3 * 4096).map(|place| ((place * slice) >> 2) as u8).collect())
            .collect();
        let mut parity = vec![vec![0; 3 * 4096]; 3];
        let inputs: Vec<&[u8]> = data.iter().map(|bytes| &bytes[..]).collect();
        let mut outputs: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        codec.encode(&inputs, &mut outputs).unwrap();
        let all: Vec<Bytes> = data.iter().cloned().chain(parity.into_iter().map(Bytes::from)).collect();
        // In any order, and not all of them.
        for fragments in [vec![0, 1, 2, 3, 4, 5], vec![4, 0], vec![5], vec![1]] {
            let target = |&fragment: &u8| Target {
                fragment: FragmentIndex::new(fragment),
                node: NodeId::new(1),
                drive: DriveId::new(1),
                before: None,
            };
            let targets: Vec<Target> = fragments.iter().map(target).collect();
            let made = from_slices(&codec, &data, &targets);
            assert_eq!(made.len(), fragments.len());
            for (made, &fragment) in made.iter().zip(&fragments) {
                assert!(made.bytes == all[usize::from(fragment)], "fragment {fragment}");
                assert_eq!(made.sums, Made::of(made.bytes.clone()).sums);
                assert_eq!(made.sums.len(), 3);
            }
        }
    }
}
