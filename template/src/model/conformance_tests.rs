//! ONNX's own test cases of its operators, out of the `onnx` package that `tests/requirements.txt` installs: every case whose
//! operators and types are ours must give what ONNX says, but for the exceptions below.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use candle_core::Tensor;
use candle_onnx::onnx::{GraphProto, ModelProto, TensorProto, type_proto};
use prost::Message;

use super::load::{drop_weights, opset};
use super::lower::operators;
use super::plan::Plan;
use super::python_tests::script;
use super::tensor::{dtype, floats, type_name, whole_numbers};
use super::weights::decoded;

/// Cases that fail, each with its reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("test_not_2d", OLD),
    ("test_not_3d", OLD),
    ("test_not_4d", OLD),
    ("test_scan_sum", "Scan had a batch of its own before opset 9, which circuits do not have"),
    ("test_training_dropout", RANDOM),
    ("test_training_dropout_default", RANDOM),
    ("test_training_dropout_default_mask", RANDOM),
    ("test_training_dropout_mask", RANDOM),
];
const OLD: &str = "it is written in opset 1, and 7 is the oldest";
const RANDOM: &str = "it drops at random, as in training: what it gives can be neither repeated nor proven";

/// Operators that must be among ours: those that circuits are made of.
#[rustfmt::skip]
const REQUIRED: &[&str] = &[
    "Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "AveragePool",
    "BatchNormalization", "BitShift", "Cast", "Ceil", "Celu", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv",
    "ConvTranspose", "Cos", "Cosh", "CumSum", "DepthToSpace", "Div", "Dropout", "Einsum", "Elu", "Equal", "Erf", "Exp",
    "Expand", "EyeLike", "Flatten", "Floor", "GRU", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm",
    "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish",
    "Hardmax", "Identity", "If", "InstanceNormalization", "LRN", "LSTM", "LayerNormalization", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "LogSoftmax", "LpNormalization", "LpPool", "MatMul", "Max", "MaxPool", "Mean", "Min", "Mish",
    "Mod", "Mul", "Neg", "NonZero", "Not", "OneHot", "Or", "PRelu", "Pad", "Pow", "RNN", "Range", "Reciprocal",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Resize", "Round", "Scan", "Scatter", "ScatterElements",
    "ScatterND", "Selu", "Shape", "Sigmoid", "Sign", "Sin", "Sinh", "Size", "Slice", "Softmax", "Softplus", "Softsign",
    "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tan", "Tanh", "ThresholdedRelu", "Tile", "TopK",
    "Transpose", "Trilu", "Unsqueeze", "Upsample", "Where", "Xor",
];

/// Operators of those of which no case passes: the package has none of GlobalLpPool, and those of Not are exceptions.
const CASELESS: &[&str] = &["GlobalLpPool", "Not"];

/// How many cases pass at least. `tests/requirements.txt` pins the `onnx` package, so fewer means that more are skipped.
const PASSED: usize = 1091;

/// What became of the cases of one operator.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

#[test]
fn onnx_s_own_cases_give_what_onnx_says() {
    let folder = tempfile::tempdir().unwrap();
    script("onnx_cases.py", &[folder.path()]);
    let known: BTreeSet<&str> = operators().collect();
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let (mut all, mut failures, mut skips) = (Tally::default(), Vec::new(), BTreeMap::<String, usize>::new());
    let mut names: Vec<PathBuf> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for path in &names {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (operator, outcome) = outcome(path, &known);
        let tally = tallies.entry(operator).or_default();
        match outcome {
            Outcome::Passed => {
                tally.passed += 1;
                all.passed += 1;
            }
            Outcome::Skipped(reason) => {
                tally.skipped += 1;
                all.skipped += 1;
                *skips.entry(reason).or_default() += 1;
            }
            Outcome::Failed(reason) => {
                tally.failed += 1;
                all.failed += 1;
                failures.push((name, reason));
            }
        }
    }
    for (operator, Tally { passed, failed, skipped }) in &tallies {
        println!("{operator:24} {passed:4} passed {failed:4} failed {skipped:4} skipped");
    }
    for (reason, count) in &skips {
        println!("{count:4} skipped: {reason}");
    }
    println!("{} passed, {} failed, {} skipped", all.passed, all.failed, all.skipped);
    let excepted = |name: &str| EXCEPTIONS.iter().any(|(exception, _)| *exception == name);
    let new: Vec<_> = failures.iter().filter(|(name, _)| !excepted(name)).collect();
    new.iter().for_each(|(name, reason)| println!("{name}: {reason}"));
    assert!(new.is_empty(), "{} cases fail", new.len());
    let passing: Vec<_> =
        EXCEPTIONS.iter().filter(|(name, _)| !failures.iter().any(|(failed, _)| failed == name)).collect();
    assert!(passing.is_empty(), "no longer exceptions: {passing:?}");
    let missing: Vec<_> = REQUIRED.iter().filter(|required| !known.contains(**required)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let unproven =
        |name: &&&str| tallies.get(**name).is_none_or(|tally| tally.passed == 0) && !CASELESS.contains(*name);
    let unproven: Vec<_> = REQUIRED.iter().filter(unproven).collect();
    assert!(unproven.is_empty(), "no case of these passes: {unproven:?}");
    assert!(all.passed >= PASSED, "only {} cases pass, and {PASSED} did: what is skipped now?", all.passed);
}

/// The operator that a case is of, and what became of it.
fn outcome(path: &Path, known: &BTreeSet<&str>) -> (String, Outcome) {
    let proto = ModelProto::decode(fs::read(path.join("model.onnx")).unwrap().as_slice()).unwrap();
    let graph = proto.graph.clone().unwrap_or_default();
    let operator = match graph.node.as_slice() {
        [only] => only.op_type.clone(),
        _ => "(several)".to_owned(),
    };
    let outcome = match skipped(path, &graph, known) {
        Some(reason) => Outcome::Skipped(reason),
        None => match check(path, &proto) {
            Ok(()) => Outcome::Passed,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        },
    };
    (operator, outcome)
}

/// Why a case is not for us: its operators or its types.
fn skipped(path: &Path, graph: &GraphProto, known: &BTreeSet<&str>) -> Option<String> {
    if path.join("not_tensors").exists() {
        return Some("values that are no tensors".to_owned());
    }
    let mut types = Vec::new();
    for value in graph.input.iter().chain(&graph.output) {
        match value.r#type.as_ref().and_then(|r#type| r#type.value.as_ref()) {
            Some(type_proto::Value::TensorType(tensor)) => types.push(tensor.elem_type),
            _ => return Some("values that are no tensors".to_owned()),
        }
    }
    let mut foreign = BTreeSet::new();
    walk(graph, known, &mut foreign, &mut types);
    if !foreign.is_empty() {
        return Some(format!("the operators {foreign:?}"));
    }
    types.into_iter().find_map(|one| dtype(one).err()).map(|error| format!("{error}"))
}

fn walk(graph: &GraphProto, known: &BTreeSet<&str>, foreign: &mut BTreeSet<String>, types: &mut Vec<i32>) {
    for node in &graph.node {
        if !node.domain.is_empty() || !known.contains(node.op_type.as_str()) {
            foreign.insert(node.op_type.clone());
        }
        for attribute in &node.attribute {
            types.extend(attribute.t.iter().map(|tensor| tensor.data_type));
            if matches!(attribute.name.as_str(), "to" | "dtype") {
                types.push(attribute.i as i32);
            }
            attribute.g.iter().for_each(|graph| walk(graph, known, foreign, types));
        }
    }
}

fn check(path: &Path, proto: &ModelProto) -> Result<()> {
    let text = fs::read_to_string(path.join("tolerance"))?;
    let tolerances: Vec<f64> = text.split(' ').map(|one| one.parse().map_err(Into::into)).collect::<Result<_>>()?;
    let (found, expected) = (run(path, proto)?, tensors(path, "output")?);
    ensure!(!expected.is_empty(), "the case expects no output");
    ensure!(found.len() == expected.len(), "gives {} outputs, not {}", found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        compare(found, expected, tolerances[0], tolerances[1])?;
    }
    Ok(())
}

/// The outputs of the model in a folder, of the inputs beside it.
fn run(path: &Path, proto: &ModelProto) -> Result<Vec<Tensor>> {
    let mut graph = proto.graph.clone().context("no graph")?;
    drop_weights(&mut graph);
    let names: Vec<String> = graph.input.iter().map(|input| input.name.clone()).collect();
    Plan::build(&graph, &names, opset(proto)?)?.run(tensors(path, "input")?)
}

pub fn tensors(path: &Path, kind: &str) -> Result<Vec<Tensor>> {
    let files = (0..).map(|at| path.join(format!("{kind}_{at}.pb"))).take_while(|file| file.exists());
    files.map(|file| decoded(&TensorProto::decode(fs::read(file)?.as_slice())?)).collect()
}

/// As ONNX's own runner: |found − expected| ≤ atol + rtol · |expected|, and whole numbers exactly.
fn compare(found: &Tensor, expected: &Tensor, rtol: f64, atol: f64) -> Result<()> {
    let shapes = (found.dims(), expected.dims());
    ensure!(shapes.0 == shapes.1, "has the shape {:?}, not {:?}", shapes.0, shapes.1);
    let types = (type_name(found.dtype()), type_name(expected.dtype()));
    ensure!(types.0 == types.1, "is {}, not {}", types.0, types.1);
    if !expected.dtype().is_float() {
        let (found, expected) = (whole_numbers(found)?, whole_numbers(expected)?);
        ensure!(found == expected, "is {found:?}, not {expected:?}");
        return Ok(());
    }
    for (at, (found, expected)) in floats(found)?.iter().zip(&floats(expected)?).enumerate() {
        let same = found == expected || (found.is_nan() && expected.is_nan());
        // An infinity is near nothing: the tolerance beside it would be infinite too.
        let near = expected.is_finite() && (found - expected).abs() <= atol + rtol * expected.abs();
        ensure!(same || near, "is {found} at place {at}, not {expected}");
    }
    Ok(())
}
