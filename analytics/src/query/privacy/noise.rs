//! Draws that the same students always give, and nobody without the key.

use sha2::{Digest, Sha256};

use super::figure::Kind;

/// The draw for the number or total itself, and that for how many are wanted to reach a unit; powers of two are far from both.
pub(super) const TOTAL: i32 = i32::MAX;
pub(super) const WANTED: i32 = i32::MIN;

/// A keyed hash of a student.
pub(super) type Hash = [u8; 32];

/// A keyed hash of a set, whatever the order of its members.
pub(super) struct Drawn {
    keyed: Sha256,
    drawn: Hash,
}

impl Drawn {
    /// Nobody yet. Rows of a `day`, counted from 1970, draw other numbers than rows of another, or of any.
    pub fn new(key: &[u8; 32], day: Option<i32>) -> Self {
        let keyed = Sha256::new().chain_update(key);
        let keyed = day.map_or(keyed.clone(), |day| keyed.chain_update(day.to_be_bytes()));
        Self { keyed, drawn: [0; 32] }
    }

    pub fn hash(&self, student: u128, said: &[u8]) -> Hash {
        self.keyed.clone().chain_update(student.to_be_bytes()).chain_update(said).finalize().into()
    }

    pub fn add(&mut self, student: u128, said: &[u8]) {
        self.mix(&self.hash(student, said));
    }

    pub fn mix(&mut self, hash: &Hash) {
        for (byte, hashed) in self.drawn.iter_mut().zip(hash) {
            *byte ^= hashed;
        }
    }

    pub fn noise(&self, kind: Kind) -> Noise {
        Noise(self.keyed.clone().chain_update([kind as u8]).chain_update(self.drawn))
    }
}

/// Laplace variables of scale one, each by a number.
pub(super) struct Noise(Sha256);

impl Noise {
    pub fn laplace(&self, number: i32) -> f64 {
        let hash: Hash = self.0.clone().chain_update(number.to_be_bytes()).finalize().into();
        let bits = u64::from_be_bytes(hash[..8].try_into().expect("eight of thirty-two bytes"));
        // Between -1/2 and 1/2, never either.
        let uniform = ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64 - 0.5;
        -uniform.signum() * (1.0 - 2.0 * uniform.abs()).ln()
    }
}
