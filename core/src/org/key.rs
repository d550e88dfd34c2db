//! API keys: 256 random bits, shown once, kept as SHA-256.

use secrecy::SecretString;
use sha2::{Digest, Sha256};

/// A new key as it is shown once: `sk-stw-` and 64 hexadecimal digits.
pub fn fresh() -> SecretString {
    let bits: [u8; 32] = rand::random();
    SecretString::from(format!("sk-stw-{}", hex::encode(bits)))
}

/// SHA-256 of a key in hexadecimal, the only form that is kept.
pub fn hash(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))
}
