//! Which kernel does the work, and matrices prepared for it.

#[cfg(target_arch = "aarch64")]
use crate::kernel::Neon;
#[cfg(target_arch = "x86_64")]
use crate::kernel::{Gfni256, Gfni512, Shuffle256};
use crate::kernel::{Kernel, Naive, Operands, Scalar, Write};
use crate::matrix::Matrix;
use crate::off;
use std::fmt;
use std::sync::OnceLock;

/// A kernel that runs on this machine. Copy it around freely.
///
/// Kernels that need an instruction set are reached only through the value that detection returned.
#[derive(Clone, Copy)]
pub struct Engine {
    kernel: &'static dyn Kernel,
}

impl Engine {
    /// The fastest kernel this machine can run, of those that are not [off](crate::off).
    pub fn detect() -> Self {
        static DETECTED: OnceLock<Engine> = OnceLock::new();
        *DETECTED.get_or_init(|| Self::fastest_without(off::is_off))
    }

    fn fastest_without(is_off: impl Fn(&str) -> bool) -> Self {
        Self::vectors().filter(|engine| !is_off(engine.name())).last().unwrap_or_else(Self::scalar)
    }

    /// The kernels for this machine's vector instructions, the slowest first.
    #[cfg(target_arch = "x86_64")]
    fn vectors() -> impl Iterator<Item = Self> {
        let shuffle = Shuffle256::detect().map(|kernel| Self { kernel });
        let short = Gfni256::detect().map(|kernel| Self { kernel });
        let long = Gfni512::detect().map(|kernel| Self { kernel });
        [shuffle, short, long].into_iter().flatten()
    }

    /// The kernels for this machine's vector instructions, the slowest first.
    #[cfg(target_arch = "aarch64")]
    fn vectors() -> impl Iterator<Item = Self> {
        Neon::detect().map(|kernel| Self { kernel }).into_iter()
    }

    /// The kernels for this machine's vector instructions: none are known.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn vectors() -> impl Iterator<Item = Self> {
        std::iter::empty()
    }

    /// The portable kernel.
    pub fn scalar() -> Self {
        Self { kernel: &Scalar }
    }

    /// The oracle for tests: plain definition, very slow.
    pub fn naive() -> Self {
        Self { kernel: &Naive }
    }

    /// A kernel from elsewhere: a benchmark's candidate, a test's counter.
    pub fn from_kernel(kernel: &'static dyn Kernel) -> Self {
        Self { kernel }
    }

    /// Every kernel this machine can run, the slowest first: what a differential test goes through.
    pub fn available() -> impl Iterator<Item = Self> {
        [Self::naive(), Self::scalar()].into_iter().chain(Self::vectors())
    }

    /// The one of that name among [`Engine::available`].
    pub fn named(name: &str) -> Option<Self> {
        Self::available().find(|engine| engine.name() == name)
    }

    /// Its kernel's name.
    pub fn name(self) -> &'static str {
        self.kernel.name()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({})", self.name())
    }
}

/// A matrix with its tables and the kernel they were made by: the three never part.
pub(crate) struct PreparedMatrix {
    engine: Engine,
    shape: (usize, usize),
    tables: Box<[u64]>,
}

impl PreparedMatrix {
    pub(crate) fn new(engine: Engine, matrix: &Matrix) -> Self {
        let shape = (matrix.row_count(), matrix.column_count());
        Self { engine, shape, tables: engine.kernel.tables(matrix) }
    }

    pub(crate) fn engine(&self) -> Engine {
        self.engine
    }

    /// `outputs[i]` gets the sum of row `selected.0[i]`; `inputs[i]` belongs to column `selected.1[i]`.
    ///
    /// # Panics
    /// If shapes do not fit: callers have checked them.
    pub(crate) fn multiply(
        &self,
        selected: (&[u8], &[u8]),
        inputs: &[&[u8]],
        len_bytes: usize,
        outputs: &mut [&mut [u8]],
        write: Write,
    ) {
        let operands = Operands::new(&self.tables, self.shape, selected, inputs, len_bytes);
        self.engine.kernel.multiply(&operands, outputs, write);
    }

    /// Whether [`PreparedMatrix::multiply`] would write `expected`.
    pub(crate) fn verify(
        &self,
        selected: (&[u8], &[u8]),
        inputs: &[&[u8]],
        len_bytes: usize,
        expected: &[&[u8]],
    ) -> bool {
        let operands = Operands::new(&self.tables, self.shape, selected, inputs, len_bytes);
        self.engine.kernel.verify(&operands, expected)
    }
}

impl fmt::Debug for PreparedMatrix {
    /// Without the tables, which may be tens of kilobytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (row_count, column_count) = self.shape;
        write!(f, "PreparedMatrix({row_count} x {column_count}, {})", self.engine.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Engine;

    #[test]
    fn engines_are_found_by_their_names() {
        for engine in Engine::available() {
            assert_eq!(Engine::named(engine.name()).map(Engine::name), Some(engine.name()));
        }
        assert!(Engine::named("abacus").is_none());
        assert!(Engine::available().any(|engine| engine.name() == Engine::detect().name()));
    }

    #[test]
    fn what_is_off_is_not_chosen() {
        let names: Vec<&str> = Engine::vectors().map(Engine::name).collect();
        assert_eq!(Engine::fastest_without(|_| false).name(), names.last().copied().unwrap_or("scalar"));
        // One after the other is switched off, the fastest first: the next one steps in.
        for (index, _) in names.iter().enumerate() {
            let next = names[..index].last().copied().unwrap_or("scalar");
            assert_eq!(Engine::fastest_without(|name| names[index..].contains(&name)).name(), next);
        }
        assert_eq!(Engine::fastest_without(|_| true).name(), "scalar");
    }
}
