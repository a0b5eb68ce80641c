//! Secrets that are shown once and kept only as a hash: device tokens, badges, sessions.
//!
//! They are 256 random bits, so a fast hash is enough: there is nothing to guess.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// SHA-256 of a secret, as it stands in the database.
pub type SecretHash = [u8; 32];

/// Random bytes in one secret.
const SECRET_BYTES: usize = 32;

/// A new secret: `prefix` and 43 characters of base64url.
pub fn generate(prefix: &str) -> String {
    let mut bytes = [0; SECRET_BYTES];
    fill_random(&mut bytes);
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}

pub fn hash(secret: &str) -> SecretHash {
    Sha256::digest(secret.as_bytes()).into()
}

/// Whether a secret has this hash, in a time that does not depend on how much of it is right.
pub fn matches(secret: &str, expected: &SecretHash) -> bool {
    hash(secret).ct_eq(expected).into()
}

pub(crate) fn fill_random(bytes: &mut [u8]) {
    OsRng.try_fill_bytes(bytes).expect("the operating system has random bytes once it has started");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_matches_its_own_hash_only() {
        let (one, other) = (generate("b_"), generate("b_"));
        assert_ne!(one, other);
        assert_eq!(one.len(), 45);
        assert!(matches(&one, &hash(&one)));
        assert!(!matches(&one, &hash(&other)));
        assert!(!matches(&one[..44], &hash(&one)));
    }
}
