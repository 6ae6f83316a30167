//! What of this machine's instructions is not to be used: for tests of what is behind them, and for a machine whose instructions are in doubt.

use std::sync::OnceLock;

/// Names of what is not to be used, with commas between them: kernels as [`Engine::name`](crate::Engine::name) gives them, and `crc-fold512`, `md5-lanes16` and
/// `md5-lanes8`. It is read once. What is portable is always there.
pub const VARIABLE: &str = "STRONGROOM_KERNELS_OFF";

/// Whether `name` is not to be used.
pub(crate) fn is_off(name: &str) -> bool {
    static OFF: OnceLock<String> = OnceLock::new();
    is_named(OFF.get_or_init(|| std::env::var(VARIABLE).unwrap_or_default()), name)
}

pub(crate) fn is_named(names: &str, name: &str) -> bool {
    names.split(',').any(|one| one.trim() == name)
}

#[cfg(test)]
mod tests {
    use super::is_named;

    #[test]
    fn names_have_commas_between_them() {
        for names in ["gfni512", "gfni512,neon", " neon , gfni512 "] {
            assert!(is_named(names, "gfni512"), "{names}");
        }
        for names in ["", "gfni", "gfni512x", "gfni512 neon", "Gfni512"] {
            assert!(!is_named(names, "gfni512"), "{names}");
        }
    }
}
