//! GF(2^8): bytes as polynomials over GF(2), modulo x^8 + x^4 + x^3 + x^2 + 1 (0x11D).
//!
//! The polynomial is the one nearly every Reed-Solomon library uses, so outputs can be compared
//! byte by byte. `x` generates the multiplicative group, hence products by logarithms. These
//! functions make coefficients; the bulk of the bytes goes through a [`kernel`](crate::kernel).

/// The modulus, with its x^8.
pub const POLYNOMIAL: u16 = 0x11D;

/// Order of the multiplicative group.
const ORDER: usize = 255;

/// `EXP[i] = x^i`, written twice in a row so that a sum of two logarithms needs no reduction.
const EXP: [u8; 2 * ORDER] = exponentials();

/// `LOG[EXP[i]] = i` for `i < ORDER`. `LOG[0]` is never used.
const LOG: [u8; 256] = logarithms();

const fn exponentials() -> [u8; 2 * ORDER] {
    let mut table = [0; 2 * ORDER];
    let mut power: u16 = 1;
    let mut exponent = 0;
    while exponent < 2 * ORDER {
        table[exponent] = power as u8;
        power <<= 1;
        if power & 0x100 != 0 {
            power ^= POLYNOMIAL;
        }
        exponent += 1;
    }
    table
}

const fn logarithms() -> [u8; 256] {
    let mut table = [0; 256];
    let mut exponent = 0;
    while exponent < ORDER {
        table[EXP[exponent] as usize] = exponent as u8;
        exponent += 1;
    }
    table
}

/// `a + b`, which is also `a - b`.
pub const fn add(a: u8, b: u8) -> u8 {
    a ^ b
}

/// `a * b`.
pub const fn mul(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 { 0 } else { EXP[LOG[a as usize] as usize + LOG[b as usize] as usize] }
}

/// `1 / a`, or nothing for zero.
pub const fn inverse(a: u8) -> Option<u8> {
    if a == 0 { None } else { Some(EXP[ORDER - LOG[a as usize] as usize]) }
}

/// `a / b`, or nothing when `b` is zero.
pub const fn div(a: u8, b: u8) -> Option<u8> {
    match inverse(b) {
        Some(inverse) => Some(mul(a, inverse)),
        None => None,
    }
}

/// `a^exponent`; `0^0` is 1.
pub const fn pow(a: u8, exponent: usize) -> u8 {
    if exponent == 0 {
        1
    } else if a == 0 {
        0
    } else {
        EXP[(LOG[a as usize] as usize * (exponent % ORDER)) % ORDER]
    }
}

#[cfg(test)]
mod tests {
    use super::{add, div, inverse, mul, pow};

    /// Multiplication as it is defined: shift, add, reduce. Shares nothing with the tables.
    fn mul_by_definition(a: u8, b: u8) -> u8 {
        let product = (0..8).filter(|bit| b >> bit & 1 == 1).fold(0u16, |sum, bit| sum ^ u16::from(a) << bit);
        let reduced = (8..15).rev().fold(product, |rest, bit| {
            if rest >> bit & 1 == 1 { rest ^ super::POLYNOMIAL << (bit - 8) } else { rest }
        });
        u8::try_from(reduced).unwrap()
    }

    #[test]
    fn products_are_those_of_the_definition() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(mul(a, b), mul_by_definition(a, b), "{a} * {b}");
            }
        }
    }

    #[test]
    fn multiplication_is_commutative_associative_and_distributive() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(mul(a, b), mul(b, a));
                // Every third c: together with all a and b this meets every residue in a fraction of the time.
                for c in (0..=255).step_by(3) {
                    assert_eq!(mul(mul(a, b), c), mul(a, mul(b, c)));
                    assert_eq!(mul(a, add(b, c)), add(mul(a, b), mul(a, c)));
                }
            }
        }
    }

    #[test]
    fn zero_one_and_inverses() {
        for a in 0..=255 {
            assert_eq!(add(a, a), 0);
            assert_eq!(add(a, 0), a);
            assert_eq!(mul(a, 1), a);
            assert_eq!(mul(a, 0), 0);
            assert_eq!(inverse(a).map(|inverse| mul(a, inverse)), (a != 0).then_some(1));
            for b in 0..=255 {
                assert_eq!(div(mul(a, b), b), (b != 0).then_some(a));
            }
        }
    }

    #[test]
    fn powers_are_repeated_products() {
        for a in 0..=255 {
            let mut expected = 1;
            for exponent in 0..600 {
                assert_eq!(pow(a, exponent), expected, "{a}^{exponent}");
                expected = mul(expected, a);
            }
        }
    }
}
