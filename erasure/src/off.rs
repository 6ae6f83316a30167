//! What of this machine's instructions is not to be used: for tests of what is behind them, and for a machine whose instructions are in doubt.

use std::sync::OnceLock;

/// Names of what is not to be used, with commas between them, of [`NAMES`]. It is read once. What is portable is always there; CRC32C then comes from the crate `crc32c`, which has an instruction of its own choice.
pub const VARIABLE: &str = "STRONGROOM_KERNELS_OFF";

/// What can be switched off: kernels as [`Engine::name`](crate::Engine::name) gives them, and ways to sum and to hash.
pub const NAMES: [&str; 7] =
    ["shuffle256", "gfni256", "gfni512", "neon", CRC_FOLD512, MD5_LANES8, MD5_LANES16];
pub(crate) const CRC_FOLD512: &str = "crc-fold512";
pub(crate) const MD5_LANES8: &str = "md5-lanes8";
pub(crate) const MD5_LANES16: &str = "md5-lanes16";

/// What [`VARIABLE`] names that is none of [`NAMES`]: a slip, for whoever starts a process to be told.
pub fn unknown() -> Vec<&'static str> {
    unknown_of(value())
}

/// Whether `name` is not to be used.
pub(crate) fn is_off(name: &str) -> bool {
    named(value()).any(|one| one == name)
}

fn value() -> &'static str {
    static VALUE: OnceLock<String> = OnceLock::new();
    VALUE.get_or_init(|| std::env::var(VARIABLE).unwrap_or_default())
}

fn named(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|name| !name.is_empty())
}

fn unknown_of(value: &str) -> Vec<&str> {
    named(value).filter(|name| !NAMES.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::{NAMES, named, unknown_of};
    use crate::Engine;

    #[test]
    fn names_have_commas_between_them() {
        assert!(named("gfni512, neon ,,gfni256").eq(["gfni512", "neon", "gfni256"]));
        assert_eq!(named("").count(), 0);
        assert_eq!(unknown_of("gfni512,GFNI512, gfni-512 ,md5-lanes8"), ["GFNI512", "gfni-512"]);
        assert!(unknown_of("").is_empty());
    }

    #[test]
    fn every_kernel_with_instructions_has_a_name_here() {
        let portable = [Engine::naive().name(), Engine::scalar().name()];
        let mut names = Engine::available().map(Engine::name).filter(|name| !portable.contains(name));
        assert!(names.all(|name| NAMES.contains(&name)));
    }
}
