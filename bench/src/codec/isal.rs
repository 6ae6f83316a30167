//! ISA-L, the library that Ceph and others use, if the machine has it: loaded when it is asked for, never linked.
#![expect(unsafe_code, reason = "functions of a C library are called")]

use anyhow::Context;
use libloading::Library;
use std::ffi::{c_int, c_uchar, c_uint};
use std::path::Path;
use strongroom_erasure::limits::SHARD_COUNT_MAX;

/// Bytes of its tables for each coefficient.
const TABLE_LEN_BYTES: usize = 32;

type InitTables = unsafe extern "C" fn(c_int, c_int, *const c_uchar, *mut c_uchar);
type EncodeData =
    unsafe extern "C" fn(c_int, c_int, c_int, *const c_uchar, *const *const c_uchar, *const *mut c_uchar);
type Crc32Iscsi = unsafe extern "C" fn(*const c_uchar, c_int, c_uint) -> c_uint;

/// The functions that are compared.
pub struct Isal {
    init_tables: InitTables,
    encode_data: EncodeData,
    crc32_iscsi: Crc32Iscsi,
    /// Behind what points into it.
    _library: Library,
}

/// A matrix as ISA-L multiplies by it.
pub struct Tables {
    bytes: Vec<u8>,
    rows: usize,
    columns: usize,
}

impl Isal {
    /// Loads it from a file, or from where the machine keeps its libraries.
    ///
    /// # Errors
    /// There is none, or it lacks a function.
    pub fn load(path: Option<&Path>) -> anyhow::Result<Self> {
        let path = path.unwrap_or(Path::new("libisal.so.2"));
        let name = path.display();
        // SAFETY: the library's initialisers are those of ISA-L, which do nothing but look at the processor.
        let library = unsafe { Library::new(path) }.with_context(|| format!("loading {name}"))?;
        // SAFETY: the types are those of its headers erasure_code.h and crc.h, unchanged since 2.0; the pointers do not outlive the library, which is kept beside them.
        unsafe {
            Ok(Self {
                init_tables: *library.get::<InitTables>(c"ec_init_tables")?,
                encode_data: *library.get::<EncodeData>(c"ec_encode_data")?,
                crc32_iscsi: *library.get::<Crc32Iscsi>(c"crc32_iscsi")?,
                _library: library,
            })
        }
    }

    /// Tables for a matrix of `rows` by `columns`, given row by row.
    pub fn tables(&self, rows: usize, columns: usize, cells: &[u8]) -> Tables {
        assert_eq!(cells.len(), rows * columns);
        assert!(rows <= SHARD_COUNT_MAX && columns <= SHARD_COUNT_MAX);
        let mut bytes = vec![0; TABLE_LEN_BYTES * cells.len()];
        // SAFETY: it reads `rows * columns` bytes and writes 32 times as many.
        unsafe { (self.init_tables)(columns as c_int, rows as c_int, cells.as_ptr(), bytes.as_mut_ptr()) };
        Tables { bytes, rows, columns }
    }

    /// Multiplies: one output for each row.
    pub fn multiply(&self, tables: &Tables, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        assert!(inputs.len() == tables.columns && outputs.len() == tables.rows);
        let mut sources = [std::ptr::null(); SHARD_COUNT_MAX];
        let mut targets = [std::ptr::null_mut(); SHARD_COUNT_MAX];
        let mut len = None;
        for (source, input) in sources.iter_mut().zip(inputs) {
            assert_eq!(*len.get_or_insert(input.len()), input.len());
            *source = input.as_ptr();
        }
        for (target, output) in targets.iter_mut().zip(outputs) {
            assert_eq!(len, Some(output.len()));
            *target = output.as_mut_ptr();
        }
        let len = c_int::try_from(len.unwrap_or(0)).expect("shards of some MiB");
        let (columns, rows) = (tables.columns as c_int, tables.rows as c_int);
        let (sources, targets) = (sources.as_ptr(), targets.as_ptr());
        // SAFETY: there are as many pointers as rows and columns, each to `len` bytes that are borrowed here; tables of this shape, which it only reads.
        unsafe { (self.encode_data)(len, columns, rows, tables.bytes.as_ptr(), sources, targets) };
    }

    /// CRC32C.
    pub fn crc32c(&self, bytes: &[u8]) -> u32 {
        let len = c_int::try_from(bytes.len()).expect("shards of some MiB");
        // SAFETY: it reads `len` bytes. It begins with what it is given and complements nothing.
        !unsafe { (self.crc32_iscsi)(bytes.as_ptr(), len, !0) }
    }
}
