//! The fuzz targets: each hands bytes from outside to what reads them in the daemon. None may panic, and what was
//! understood must be what the next stage can bear. The saved corpus is in `corpus/`, a folder a target.

use std::collections::HashSet;

use nova::config::{Config, FeatureSource, RequiredSettings, Sources};
use nova::ezkl::proof::ProofFile;
use nova::ezkl::reply::Reply;
use nova::ezkl::witness::Witness;
use nova::features::{Input, frame, parse_input};
use nova::model::Model;
use nova::pipeline::prove::{is_request_id, read_document};
use nova::prelude::{Column, DataFrame, NamedFrom as _, Preprocessor, Series};
use nova::services::ipfs_gateway::is_cid;
use nova::services::plumber::{cid_of, features_of, rows_of};

/// A wallet that Plumber is asked for.
const WALLET: &str = "0x00000000219ab540356cbb839cbe05303d7705fa";

/// What a consumer wrote on chain.
pub fn request_input(data: &[u8]) {
    let raw = String::from_utf8_lossy(data);
    if let Ok(Input::Wallet(wallet)) = parse_input(FeatureSource::Plumber, &raw) {
        // It becomes part of a path.
        let digits = wallet.strip_prefix("0x").unwrap_or_default();
        assert!(digits.len() == 40 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{wallet:?}");
    }
    if let Ok(Input::Inline(features)) = parse_input(FeatureSource::Inline, &raw) {
        let _ = frame(&features);
    }
}

/// Plumber's features of one wallet, of several, and its CIDs.
pub fn plumber_answer(data: &[u8]) {
    if let Ok(features) = features_of(WALLET, data) {
        let _ = frame(&features);
    }
    if let Ok(rows) = rows_of(&HashSet::from([WALLET.to_owned()]), data) {
        assert!(rows.len() <= 1, "nobody asked for {:?}", rows.keys());
        for features in rows.values() {
            let _ = frame(features);
        }
    }
    if let Ok(cid) = cid_of(data) {
        assert!(is_plain(&cid), "{cid:?}");
    }
}

/// A validator's challenge: the document behind its CID, or the CID itself.
pub fn challenge_document(data: &[u8]) {
    if let Ok(ids) = read_document(data) {
        assert!(!ids.is_empty() && ids.iter().all(|id| is_request_id(id) && is_plain(id)), "{ids:?}");
    }
    let payload = String::from_utf8_lossy(data);
    if is_cid(&payload) || is_request_id(&payload) {
        assert!(is_plain(&payload), "{payload:?}");
    }
}

/// What the EZKL worker says, and the files that it writes.
pub fn worker_message(data: &[u8]) {
    let _ = Reply::read(data, 1);
    if let Ok(proof) = ProofFile::read(data) {
        let _ = (proof.instances(), proof.bytes());
    }
    // Settings and a witness of them, a line each.
    let mut lines = data.splitn(2, |byte| *byte == b'\n');
    if let (Some(settings), Some(witness)) = (lines.next(), lines.next())
        && let (Ok(settings), Ok(witness)) = (serde_json::from_slice(settings), Witness::read(witness.to_vec()))
    {
        let _ = (witness.outputs(&settings), witness.instances(&settings));
        let _ = (witness.is_within_ranges(&settings), witness.describe_ranges(&settings));
    }
}

/// What `tools/export_preprocessing.py` wrote, applied to numbers and to strings.
pub fn preprocessing(data: &[u8]) {
    let Ok(pipeline) = Preprocessor::from_json("preprocessing.json", &String::from_utf8_lossy(data)) else { return };
    let numbers = Series::new("".into(), [0.0, -0.1, 2.5, 1e-310, f64::MAX]);
    let gaps = Series::new("".into(), [Some(1.0), Some(f64::NAN), None, Some(-1e9), Some(1.0)]);
    let infinite = Series::new("".into(), [0.0, f64::INFINITY, 0.0, 0.0, 0.0]);
    let words = Series::new("".into(), [Some("red"), Some(""), None, Some("1"), Some("é")]);
    for values in [numbers, gaps, infinite, words] {
        let named = |name: &String| Column::from(values.clone().with_name(name.as_str().into()));
        let frame = DataFrame::new(values.len(), pipeline.columns().iter().map(named).collect()).expect("a frame");
        if let Ok(made) = pipeline.transform(&frame) {
            assert_eq!((made.height(), made.width()), (values.len(), pipeline.output().len()));
        }
    }
}

/// `nova.toml`, then after a NUL `.env`, whose lines are the environment too.
pub fn config(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (toml, dotenv) = (folder.path().join("nova.toml"), folder.path().join(".env"));
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    std::fs::write(&toml, first).expect("a file");
    std::fs::write(&dotenv, second).expect("a file");
    let text = String::from_utf8_lossy(second);
    let env = text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into()));
    let sources = Sources { toml, dotenv, env: env.collect(), flags: Vec::new() };
    for need in [RequiredSettings::Offline, RequiredSettings::Chain] {
        let _ = Config::load(&sources, need).map_err(|mistakes| mistakes.to_string());
    }
}

/// The model file.
pub fn onnx_model(data: &[u8]) {
    // What goes wrong in a step is caught there.
    let refused = Model::from_bytes(data).err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(!refused.contains("panicked: "), "{refused}");
}

/// Nothing that could lead a path elsewhere.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
