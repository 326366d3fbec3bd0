//! Awkward weights, the same in every run.
#![allow(dead_code)] // every test binary compiles this module and uses another part of it

/// A small generator of pseudo-random numbers (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn bits(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    pub fn below(&mut self, limit: u32) -> u32 {
        ((u64::from(self.bits()) * u64::from(limit)) >> 32) as u32
    }

    /// From 0 up to 1, without 1.
    pub fn uniform(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / (1 << 24) as f32
    }

    pub fn normal(&mut self) -> f32 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (std::f32::consts::TAU * self.uniform()).cos()
    }

    fn sign(&mut self) -> f32 {
        if self.bits() & 1 == 0 { 1.0 } else { -1.0 }
    }
}

/// Kinds of weights that a sub-block may consist of.
const KINDS: u32 = 22;

/// Fills a sub-block with one kind of weights; `scale` is the same for its super-block.
fn fill(kind: u32, scale: f32, random: &mut Random, x: &mut [f32]) {
    let constant = scale * random.normal();
    let at = random.below(x.len() as u32) as usize;
    for (i, x) in x.iter_mut().enumerate() {
        let normal = scale * random.normal();
        *x = match kind {
            0..=4 => normal,
            5 => scale * (2.0 * random.uniform() - 1.0),
            6 => scale * random.normal().powi(3), // outliers
            7 => normal.abs(),
            8 => -normal.abs(),
            9 => 0.0,
            10 => 0.0 * random.sign(),
            11 => constant,
            12 => {
                if i == at {
                    constant
                } else {
                    0.0
                }
            }
            13 => constant * random.sign(), // the extremes tie
            14 => scale * random.below(5) as f32 * random.sign(), // runs of equal values, halves
            15 => 1000.0 * constant + normal * 1e-3, // far from zero
            16 => f32::from_bits(constant.to_bits().wrapping_add(random.below(3))), // one bit apart
            17 => f32::from_bits(random.below(1 << 12)) * random.sign(), // denormal
            18 => f32::from_bits(random.below(1 << 24)) * random.sign(), // denormal and the least normal
            19 => normal * 1e-20,
            20 => normal * 1e18,
            _ => f32::MAX * (2.0 * random.uniform() - 1.0), // overflows wherever it can
        };
    }
}

/// Blocks of all kinds: some consist of one, some change it with every sub-block of 16 or 32.
pub fn weights(len: usize, random: &mut Random) -> Vec<f32> {
    let mut all = vec![0.0; len];
    for x in all.chunks_mut(256) {
        let scale = [0.02, 0.02, 1.0, 1e-4, 100.0][random.below(5) as usize];
        let part = [16, 32, 256, 256][random.below(4) as usize];
        // Most super-blocks are without the rare kinds, which send all of it to the scalar code.
        let kinds = [9, 17, KINDS][random.below(3) as usize];
        for x in x.chunks_mut(part) {
            fill(random.below(kinds), scale, random, x);
        }
    }
    all
}

/// Importance weights: sums of squares of activations, zeros among them.
pub fn importance(columns: usize, random: &mut Random) -> Vec<f32> {
    let kind = random.below(4);
    let mut one = |i: usize| match kind {
        0 => 1.0,
        1 => random.uniform(),
        2 => random.normal().powi(2) * 10f32.powi(random.below(6) as i32 - 3),
        _ if (i / 16).is_multiple_of(3) => 0.0,
        _ => random.uniform() * random.below(2) as f32,
    };
    (0..columns).map(&mut one).collect()
}
