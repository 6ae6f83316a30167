//! CRC32C (Castagnoli; the one of iSCSI, RFC 3720) at the speed of memory, where the machine multiplies without carries on 64 bytes at once; elsewhere that of the crate `crc32c`.
//!
//! It stands here, below the formats that use it, because an encoder sums up what it has in the first-level cache anyway
//! ([`Codec::encode_summed`](crate::Codec::encode_summed)).

#[cfg(target_arch = "x86_64")]
mod fold512;
#[cfg(test)]
mod tests;

/// How this machine sums what is not short: the name of what it uses.
pub fn way() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if fold512::Fold512::detect_for(usize::MAX).is_some() {
        return crate::off::CRC_FOLD512;
    }
    "crate crc32c"
}

/// CRC32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    append(0, bytes)
}

/// CRC32C of the bytes that gave `crc32c`, followed by `bytes`.
pub fn append(crc32c: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(fold) = fold512::Fold512::detect_for(bytes.len()) {
        return fold.append(crc32c, bytes);
    }
    ::crc32c::crc32c_append(crc32c, bytes)
}
