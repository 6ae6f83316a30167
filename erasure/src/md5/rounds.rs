//! The 64 steps of RFC 1321, 3.4, on whatever holds a word of each message.

/// What the state of a message is before its first block.
pub(super) const BEGIN: [u32; 4] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476];

/// What is added in each step: the first 32 bits behind the point of the sines of 1, 2, 3 … (3.4).
const CONSTANTS: [u32; 64] = [
    0xD76A_A478,
    0xE8C7_B756,
    0x2420_70DB,
    0xC1BD_CEEE,
    0xF57C_0FAF,
    0x4787_C62A,
    0xA830_4613,
    0xFD46_9501,
    0x6980_98D8,
    0x8B44_F7AF,
    0xFFFF_5BB1,
    0x895C_D7BE,
    0x6B90_1122,
    0xFD98_7193,
    0xA679_438E,
    0x49B4_0821,
    0xF61E_2562,
    0xC040_B340,
    0x265E_5A51,
    0xE9B6_C7AA,
    0xD62F_105D,
    0x0244_1453,
    0xD8A1_E681,
    0xE7D3_FBC8,
    0x21E1_CDE6,
    0xC337_07D6,
    0xF4D5_0D87,
    0x455A_14ED,
    0xA9E3_E905,
    0xFCEF_A3F8,
    0x676F_02D9,
    0x8D2A_4C8A,
    0xFFFA_3942,
    0x8771_F681,
    0x6D9D_6122,
    0xFDE5_380C,
    0xA4BE_EA44,
    0x4BDE_CFA9,
    0xF6BB_4B60,
    0xBEBF_BC70,
    0x289B_7EC6,
    0xEAA1_27FA,
    0xD4EF_3085,
    0x0488_1D05,
    0xD9D4_D039,
    0xE6DB_99E5,
    0x1FA2_7CF8,
    0xC4AC_5665,
    0xF429_2244,
    0x432A_FF97,
    0xAB94_23A7,
    0xFC93_A039,
    0x655B_59C3,
    0x8F0C_CC92,
    0xFFEF_F47D,
    0x8584_5DD1,
    0x6FA8_7E4F,
    0xFE2C_E6E0,
    0xA301_4314,
    0x4E08_11A1,
    0xF753_7E82,
    0xBD3A_F235,
    0x2AD7_D2BB,
    0xEB86_D391,
];

/// The same, so that the compiler does not know what they are. It would add what is constant last, in front of all that waits for the step: one more
/// addition in a chain of four.
#[inline(always)]
pub(super) fn constants() -> &'static [u32; 64] {
    std::hint::black_box(&CONSTANTS)
}

/// A word of each message.
pub(super) trait Words: Copy {
    /// The same word in each lane of another one: whoever has one has the instructions.
    fn each(self, word: u32) -> Self;
    fn plus(self, other: Self) -> Self;
    fn rotated_left<const BITS: i32, const BITS_BACK: i32>(self) -> Self;
    /// `self` where it is set chooses `b`, else `c`.
    fn chosen(self, b: Self, c: Self) -> Self;
    fn xor_three(self, b: Self, c: Self) -> Self;
    /// `b ^ (self | !c)`
    fn or_not_xor(self, b: Self, c: Self) -> Self;
}

impl Words for u32 {
    #[inline(always)]
    fn each(self, word: u32) -> Self {
        word
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }

    #[inline(always)]
    fn rotated_left<const BITS: i32, const BITS_BACK: i32>(self) -> Self {
        self.rotate_left(BITS as u32)
    }

    #[inline(always)]
    fn chosen(self, b: Self, c: Self) -> Self {
        c ^ (self & (b ^ c))
    }

    #[inline(always)]
    fn xor_three(self, b: Self, c: Self) -> Self {
        self ^ b ^ c
    }

    #[inline(always)]
    fn or_not_xor(self, b: Self, c: Self) -> Self {
        b ^ (self | !c)
    }
}

/// One step; the four words of the state change places behind it.
macro_rules! step {
    ($mix:expr, $a:ident, $b:ident, $word:expr, $constant:expr, $bits:literal) => {
        // What waits for the step before comes last.
        $a = $a.plus($word.plus($a.each($constant))).plus($mix);
        $a = $a.rotated_left::<$bits, { 32 - $bits }>().plus($b);
    };
}

/// The state after one more block of each message; `constants` are [`constants`].
#[inline(always)]
pub(super) fn block<W: Words>(state: [W; 4], x: &[W; 16], constants: &[u32; 64]) -> [W; 4] {
    let [mut a, mut b, mut c, mut d] = state;
    step!(b.chosen(c, d), a, b, x[0], constants[0], 7);
    step!(a.chosen(b, c), d, a, x[1], constants[1], 12);
    step!(d.chosen(a, b), c, d, x[2], constants[2], 17);
    step!(c.chosen(d, a), b, c, x[3], constants[3], 22);
    step!(b.chosen(c, d), a, b, x[4], constants[4], 7);
    step!(a.chosen(b, c), d, a, x[5], constants[5], 12);
    step!(d.chosen(a, b), c, d, x[6], constants[6], 17);
    step!(c.chosen(d, a), b, c, x[7], constants[7], 22);
    step!(b.chosen(c, d), a, b, x[8], constants[8], 7);
    step!(a.chosen(b, c), d, a, x[9], constants[9], 12);
    step!(d.chosen(a, b), c, d, x[10], constants[10], 17);
    step!(c.chosen(d, a), b, c, x[11], constants[11], 22);
    step!(b.chosen(c, d), a, b, x[12], constants[12], 7);
    step!(a.chosen(b, c), d, a, x[13], constants[13], 12);
    step!(d.chosen(a, b), c, d, x[14], constants[14], 17);
    step!(c.chosen(d, a), b, c, x[15], constants[15], 22);
    step!(d.chosen(b, c), a, b, x[1], constants[16], 5);
    step!(c.chosen(a, b), d, a, x[6], constants[17], 9);
    step!(b.chosen(d, a), c, d, x[11], constants[18], 14);
    step!(a.chosen(c, d), b, c, x[0], constants[19], 20);
    step!(d.chosen(b, c), a, b, x[5], constants[20], 5);
    step!(c.chosen(a, b), d, a, x[10], constants[21], 9);
    step!(b.chosen(d, a), c, d, x[15], constants[22], 14);
    step!(a.chosen(c, d), b, c, x[4], constants[23], 20);
    step!(d.chosen(b, c), a, b, x[9], constants[24], 5);
    step!(c.chosen(a, b), d, a, x[14], constants[25], 9);
    step!(b.chosen(d, a), c, d, x[3], constants[26], 14);
    step!(a.chosen(c, d), b, c, x[8], constants[27], 20);
    step!(d.chosen(b, c), a, b, x[13], constants[28], 5);
    step!(c.chosen(a, b), d, a, x[2], constants[29], 9);
    step!(b.chosen(d, a), c, d, x[7], constants[30], 14);
    step!(a.chosen(c, d), b, c, x[12], constants[31], 20);
    step!(b.xor_three(c, d), a, b, x[5], constants[32], 4);
    step!(a.xor_three(b, c), d, a, x[8], constants[33], 11);
    step!(d.xor_three(a, b), c, d, x[11], constants[34], 16);
    step!(c.xor_three(d, a), b, c, x[14], constants[35], 23);
    step!(b.xor_three(c, d), a, b, x[1], constants[36], 4);
    step!(a.xor_three(b, c), d, a, x[4], constants[37], 11);
    step!(d.xor_three(a, b), c, d, x[7], constants[38], 16);
    step!(c.xor_three(d, a), b, c, x[10], constants[39], 23);
    step!(b.xor_three(c, d), a, b, x[13], constants[40], 4);
    step!(a.xor_three(b, c), d, a, x[0], constants[41], 11);
    step!(d.xor_three(a, b), c, d, x[3], constants[42], 16);
    step!(c.xor_three(d, a), b, c, x[6], constants[43], 23);
    step!(b.xor_three(c, d), a, b, x[9], constants[44], 4);
    step!(a.xor_three(b, c), d, a, x[12], constants[45], 11);
    step!(d.xor_three(a, b), c, d, x[15], constants[46], 16);
    step!(c.xor_three(d, a), b, c, x[2], constants[47], 23);
    step!(b.or_not_xor(c, d), a, b, x[0], constants[48], 6);
    step!(a.or_not_xor(b, c), d, a, x[7], constants[49], 10);
    step!(d.or_not_xor(a, b), c, d, x[14], constants[50], 15);
    step!(c.or_not_xor(d, a), b, c, x[5], constants[51], 21);
    step!(b.or_not_xor(c, d), a, b, x[12], constants[52], 6);
    step!(a.or_not_xor(b, c), d, a, x[3], constants[53], 10);
    step!(d.or_not_xor(a, b), c, d, x[10], constants[54], 15);
    step!(c.or_not_xor(d, a), b, c, x[1], constants[55], 21);
    step!(b.or_not_xor(c, d), a, b, x[8], constants[56], 6);
    step!(a.or_not_xor(b, c), d, a, x[15], constants[57], 10);
    step!(d.or_not_xor(a, b), c, d, x[6], constants[58], 15);
    step!(c.or_not_xor(d, a), b, c, x[13], constants[59], 21);
    step!(b.or_not_xor(c, d), a, b, x[4], constants[60], 6);
    step!(a.or_not_xor(b, c), d, a, x[11], constants[61], 10);
    step!(d.or_not_xor(a, b), c, d, x[2], constants[62], 15);
    step!(c.or_not_xor(d, a), b, c, x[9], constants[63], 21);
    [state[0].plus(a), state[1].plus(b), state[2].plus(c), state[3].plus(d)]
}
