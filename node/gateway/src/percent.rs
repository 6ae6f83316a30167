//! Percent-encoding as SigV4 and S3 have it: unreserved bytes stay, all others become `%XX` in capitals.

/// What happens to `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slash {
    /// It stays: paths and keys.
    Keep,
    /// It is encoded: query names and values.
    Encode,
}

/// What `+` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plus {
    /// Itself: paths.
    Literal,
    /// A space: queries.
    Space,
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Appends `text` to `out`, percent-encoded.
pub fn encode_into(out: &mut String, text: &[u8], slash: Slash) {
    for &byte in text {
        let keep = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~')
            || (byte == b'/' && slash == Slash::Keep);
        if keep {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// `text`, percent-encoded.
pub fn encode(text: &[u8], slash: Slash) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    encode_into(&mut out, text, slash);
    out
}

/// The text that `encoded` stands for; `None` where an escape is cut short or the result is no UTF-8.
pub fn decode(encoded: &str, plus: Plus) -> Option<String> {
    let mut out = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' if plus == Plus::Space => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

/// `bytes` in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(HEX[usize::from(byte >> 4)].to_ascii_lowercase()));
        out.push(char::from(HEX[usize::from(byte & 15)].to_ascii_lowercase()));
    }
    out
}

/// The 32 bytes that 64 hexadecimal digits stand for.
pub fn hex_32(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = u8::try_from(char::from(*high).to_digit(16)? * 16 + char::from(*low).to_digit(16)?).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(text in ".*") {
            for slash in [Slash::Keep, Slash::Encode] {
                for plus in [Plus::Literal, Plus::Space] {
                    let encoded = encode(text.as_bytes(), slash);
                    prop_assert_eq!(decode(&encoded, plus), Some(text.clone()));
                }
            }
        }

        #[test]
        fn decoding_takes_any_text(text in ".*") {
            let _ = decode(&text, Plus::Space);
            let _ = hex_32(&text);
        }

        #[test]
        fn hex_32_reads_what_hex_wrote(bytes in any::<[u8; 32]>()) {
            prop_assert_eq!(hex_32(&hex(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn escapes_cut_short_and_bytes_that_are_no_text_are_refused() {
        for bad in ["%", "%4", "%zz", "a%2", "%ff", "%c3"] {
            assert_eq!(decode(bad, Plus::Literal), None, "{bad}");
        }
        assert_eq!(decode("a+b%2B", Plus::Space).as_deref(), Some("a b+"));
        assert_eq!(decode("a+b%2B", Plus::Literal).as_deref(), Some("a+b+"));
    }
}
