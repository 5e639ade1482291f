//! The fuzz targets of `fuzz/`, without a fuzzer: each runs over its saved corpus, then for ten seconds over mutations of
//! it. `NOVA_FUZZ_SEED` plays the mutations of another run again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::fuzz_targets as targets;

/// How long each target runs over mutations.
const TIME: Duration = Duration::from_secs(10);
/// Longer inputs than the corpus holds come only from a fuzzer.
const LONGEST: usize = 64 * 1024;
/// What JSON, TOML and numbers break on, put where it does not belong.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "\\",
    "\\u0000",
    "\\ud800",
    "null",
    "NaN",
    "-Infinity",
    "1e999",
    "-0",
    "1e-400",
    "18446744073709551616",
    "-1",
    "0x",
    "\0",
    "\n",
    "=",
    "[[",
    "\u{feff}",
    "\u{202e}",
    "é",
    "../",
    "%2e",
    "${HOME}",
    "'''",
];

/// Runs a target on its corpus, then on what becomes of it.
fn fuzz(name: &str, target: fn(&[u8])) {
    fuzz_for(TIME, name, target);
}

fn fuzz_for(time: Duration, name: &str, target: fn(&[u8])) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(!corpus.is_empty(), "{} is empty", folder.display());
    for (input, path) in corpus.iter().zip(&paths) {
        run(target, input, &path.display().to_string());
    }
    let seed = std::env::var("NOVA_FUZZ_SEED").ok().map_or_else(seed_of_now, |seed| seed.parse().unwrap());
    println!("NOVA_FUZZ_SEED={seed}");
    let mut random = Random(TestRng::from_seed(RngAlgorithm::ChaCha, &seed_bytes(seed)));
    let (started, mut at) = (Instant::now(), 0);
    while started.elapsed() < time {
        at += 1;
        let mut input = random.pick(&corpus).clone();
        for _ in 0..=random.below(4) {
            random.mutate(&mut input, &corpus);
        }
        run(target, &input, &format!("mutation {at} of NOVA_FUZZ_SEED={seed}"));
    }
    println!("{at} mutations");
}

/// A panic is shown with the input that made it: save that in the corpus.
fn run(target: fn(&[u8]), input: &[u8], which: &str) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        panic!("{which} panics: {:?}", String::from_utf8_lossy(input));
    }
}

fn seed_of_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
}

fn seed_bytes(seed: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes
}

struct Random(TestRng);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        (self.0.next_u64() % limit.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// One small change.
    fn mutate(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let end = at + self.below(input.len() - at + 1);
        match self.below(7) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.0.next_u64() as u8,
            2 => drop(input.drain(at..end)),
            3 => input.truncate(at),
            // A part once more, nested as often as it comes up.
            4 => {
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            5 => {
                let other = self.pick(corpus).clone();
                let from = self.below(other.len() + 1);
                input.splice(at.., other[from..].iter().copied());
            }
            _ => {
                let word = self.pick(WORDS).bytes();
                input.splice(at..at, word);
            }
        }
        input.truncate(LONGEST);
    }
}

#[test]
fn no_request_input_breaks_its_reader() {
    fuzz("request_input", targets::request_input);
}

#[test]
fn no_answer_of_plumber_breaks_its_reader() {
    fuzz("plumber_answer", targets::plumber_answer);
}

#[test]
fn no_challenge_document_breaks_its_reader() {
    fuzz("challenge_document", targets::challenge_document);
}

#[test]
fn no_message_of_a_worker_breaks_its_reader() {
    fuzz("worker_message", targets::worker_message);
}

#[test]
fn no_model_breaks_its_reader() {
    fuzz_for(6 * TIME, "onnx_model", targets::onnx_model);
}

#[test]
fn no_settings_break_their_reader() {
    fuzz("config", targets::config);
}

#[test]
fn no_preprocessing_breaks_its_reader() {
    fuzz("preprocessing", targets::preprocessing);
}
