//! A digest by which samples are told apart.

use sha2::{Digest, Sha256};

use super::Dataset;
use crate::error::Result;
use crate::naming::digits;

/// Samples that are compared to tell whether two nets saw the same ones.
const FIRST: usize = 16;

impl Dataset {
    /// SHA-256 of the first samples, as they are fed, in hexadecimal digits.
    ///
    /// # Errors
    /// As [`Dataset::batch`].
    pub(crate) fn digest(&self) -> Result<String> {
        let mut hasher = Sha256::new();
        for (_, array) in self.batch(0..self.len().min(FIRST))? {
            let bytes: Vec<u8> = match array.as_f32() {
                Ok(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                Err(_) => {
                    let numbers = array.integers().into_iter().flatten();
                    numbers.flat_map(|n: i64| n.to_le_bytes()).collect()
                }
            };
            hasher.update(bytes);
        }
        Ok(digits(&hasher.finalize()))
    }
}
