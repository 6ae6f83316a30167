//! What makes a kernel of [`Lanes`](super::lanes::Lanes): detection, groups of outputs, and functions that have the instructions.

/// Defines a kernel.
///
/// `detected` says whether the machine has `features`; `outputs` are the numbers of outputs that are made at once, from 1 on.
macro_rules! vector_kernel {
    (
        $(#[$doc:meta])*
        $kernel:ident, $name:literal,
        lanes: $lanes:ty,
        tables: $tables:path,
        features: $features:literal,
        detected: $detected:expr,
        outputs: $($count:literal)+
    ) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $kernel(());

        impl $kernel {
            /// It, if this machine can run it.
            pub fn detect() -> Option<&'static Self> {
                static DETECTED: $kernel = $kernel(());
                ($detected).then_some(&DETECTED)
            }
        }

        const _: () = {
            let words = <$lanes as $crate::kernel::lanes::Lanes>::WORDS;
            let outputs = [$($count),+].len();
            assert!(words * outputs * $crate::limits::SHARD_COUNT_MAX <= $crate::kernel::lanes::GATHERED_WORDS_MAX);
        };

        impl $crate::kernel::Kernel for $kernel {
            fn name(&self) -> &'static str {
                $name
            }

            fn tables(&self, matrix: &$crate::matrix::Matrix) -> Box<[u64]> {
                $tables(matrix)
            }

            fn multiply(
                &self,
                operands: &$crate::kernel::Operands<'_>,
                outputs: &mut [&mut [u8]],
                write: $crate::kernel::Write,
            ) {
                operands.assert_outputs(outputs.iter().map(|output| output.len()));
                let len = $crate::kernel::lanes::group_len(outputs.len(), [$($count),+].len());
                for (rows, outputs) in operands.rows().chunks(len).zip(outputs.chunks_mut(len)) {
                    $crate::kernel::lanes::with_group::<$lanes, _>(operands, rows, |group| match rows.len() {
                        // SAFETY: a kernel of this kind is handed out only by `detect`, where it found the instructions.
                        $($count => unsafe { multiply::<$count>(group, outputs, write) },)+
                        _ => unreachable!("a group has some rows, and no more than this"),
                    });
                }
            }

            fn verify(&self, operands: &$crate::kernel::Operands<'_>, expected: &[&[u8]]) -> bool {
                operands.assert_outputs(expected.iter().map(|bytes| bytes.len()));
                let len = $crate::kernel::lanes::group_len(expected.len(), [$($count),+].len());
                operands.rows().chunks(len).zip(expected.chunks(len)).all(|(rows, expected)| {
                    $crate::kernel::lanes::with_group::<$lanes, _>(operands, rows, |group| match rows.len() {
                        // SAFETY: a kernel of this kind is handed out only by `detect`, where it found the instructions.
                        $($count => unsafe { verify::<$count>(group, expected) },)+
                        _ => unreachable!("a group has some rows, and no more than this"),
                    })
                })
            }
        }

        #[target_feature(enable = $features)]
        fn multiply<const N: usize>(
            group: &$crate::kernel::lanes::Group<'_>,
            outputs: &mut [&mut [u8]],
            write: $crate::kernel::Write,
        ) {
            // SAFETY: who calls this has the instructions.
            unsafe { $crate::kernel::lanes::multiply::<$lanes, N>(group, outputs, write) }
        }

        #[target_feature(enable = $features)]
        fn verify<const N: usize>(group: &$crate::kernel::lanes::Group<'_>, expected: &[&[u8]]) -> bool {
            // SAFETY: who calls this has the instructions.
            unsafe { $crate::kernel::lanes::verify::<$lanes, N>(group, expected) }
        }
    };
}

pub(super) use vector_kernel;
