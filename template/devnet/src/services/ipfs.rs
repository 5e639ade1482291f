//! An IPFS gateway that holds what was uploaded, in memory.

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use sha2::{Digest as _, Sha256};

use super::{Shared, read, write};

/// CID version 1, content "raw", a SHA-256 multihash of 32 bytes.
const CID_PREFIX: [u8; 4] = [0x01, 0x55, 0x12, 0x20];

/// `GET /ipfs/{cid}`
pub async fn file(State(shared): State<Shared>, Path(cid): Path<String>) -> Response {
    match read(&shared.0.files).get(&cid) {
        Some(content) => content.clone().into_response(),
        None => (StatusCode::NOT_FOUND, format!("nothing here has the CID {cid}\n")).into_response(),
    }
}

/// Keeps a file and returns its CID.
pub(super) fn add(shared: &Shared, content: Bytes) -> String {
    let cid = cid(&content);
    write(&shared.0.files).insert(cid.clone(), content);
    cid
}

/// The CID of a file kept as one raw block: what `ipfs add --cid-version 1` gives up to 256 KiB. (Larger files IPFS
/// cuts into several blocks, and has another CID for them.)
pub fn cid(content: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(content).into();
    let bytes = [&CID_PREFIX[..], &digest].concat();
    format!("b{}", base32(&bytes))
}

/// Base 32 of RFC 4648, lower case, without padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bit = |index: usize| bytes.get(index / 8).map_or(0, |byte| byte >> (7 - index % 8) & 1);
    (0..bytes.len() * 8)
        .step_by(5)
        .map(|first| (first..first + 5).fold(0, |digit, index| digit << 1 | bit(index)))
        .map(|digit| char::from(ALPHABET[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cid_of_a_known_file_is_the_one_ipfs_gives() {
        // `ipfs add --cid-version 1` of "hello world" without a newline.
        assert_eq!(cid(b"hello world"), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
    }
}
