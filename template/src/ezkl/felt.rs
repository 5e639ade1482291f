//! Elements of BN254's scalar field, in which circuits compute. EZKL writes them as 64 hex digits, lowest byte first.

use anyhow::{Context as _, Result, ensure};

/// The field's order, highest byte first: 21888242871839275222246405745257275088548364400416034343698204186575808495617
/// (EIP-196).
const ORDER: [u8; 32] = [
    0x30, 0x64, 0x4e, 0x72, 0xe1, 0x31, 0xa0, 0x29, 0xb8, 0x50, 0x45, 0xb6, 0x81, 0x81, 0x58, 0x5d, 0x28, 0x33, 0xe8,
    0x48, 0x79, 0xb9, 0x70, 0x91, 0x43, 0xe1, 0xf5, 0x93, 0xf0, 0x00, 0x00, 0x01,
];

/// A field element, highest byte first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Felt([u8; 32]);

impl Felt {
    /// Reads EZKL's form.
    ///
    /// # Errors
    /// If it is not 64 hex digits, or not below the field's order.
    pub fn from_hex_le(text: &str) -> Result<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .with_context(|| format!("{text:?} is no field element (64 hex digits)"))?;
        bytes.reverse();
        ensure!(bytes < ORDER, "{text:?} is no field element: it is not below the field's order");
        Ok(Self(bytes))
    }

    /// The element as contracts want it.
    pub fn to_be_bytes(self) -> [u8; 32] {
        self.0
    }

    /// The fixed-point number that the element stands for, value / 2^`scale`: elements above half the order are negative.
    ///
    /// # Errors
    /// If its magnitude has more than 127 bits, which no output of a sound circuit has.
    pub fn to_f64(self, scale: i32) -> Result<f64> {
        let negated = subtract(&ORDER, &self.0);
        let (magnitude, sign) = if self.0 <= negated { (self.0, 1.0) } else { (negated, -1.0) };
        let (high, low) = magnitude.split_at(16);
        ensure!(
            high.iter().all(|byte| *byte == 0),
            "field element 0x{} is too large for a number",
            hex::encode(self.0)
        );
        let low = u128::from_be_bytes(low.try_into().context("16 bytes")?);
        Ok(sign * low as f64 * (-f64::from(scale)).exp2())
    }
}

/// a − b, for a ≥ b.
fn subtract(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    let mut difference = [0; 32];
    let mut borrow = false;
    for i in (0..32).rev() {
        let (partial, first) = a[i].overflowing_sub(b[i]);
        let (digit, second) = partial.overflowing_sub(u8::from(borrow));
        difference[i] = digit;
        borrow = first || second;
    }
    difference
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures read off EZKL 23.0.5.
    #[test]
    fn elements_read_back_as_the_numbers_ezkl_wrote() {
        let positive = Felt::from_hex_le("0606000000000000000000000000000000000000000000000000000000000000").unwrap();
        assert_eq!(positive.to_f64(11).unwrap(), 1542.0 / 2048.0);
        let negative = Felt::from_hex_le("72faffef93f5e1439170b97948e833285d588181b64550b829a031e1724e6430").unwrap();
        assert_eq!(negative.to_f64(0).unwrap(), -1423.0);
    }

    #[test]
    fn what_is_no_element_is_refused() {
        assert!(Felt::from_hex_le("06").is_err());
        assert!(Felt::from_hex_le(&"f".repeat(64)).is_err());
    }
}
