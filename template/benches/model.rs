//! `cargo bench --bench model -- FILE…`: the microseconds of one run of each model, the median of many, as JSON: here, and in
//! candle's own ONNX evaluator where that can run it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Tensor};
use nova::model::{InputSpec, Model};
use polars::prelude::{Column, DataFrame, IntoColumn as _, ListChunked, NamedFrom as _, Series};
use serde_json::json;

/// Runs that are timed together, and how often.
const RUNS: u32 = 200;
const TIMES: usize = 15;

fn main() {
    let paths = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let micros: serde_json::Map<_, _> = paths
        .map(|path| {
            let model = Model::load(Path::new(&path), &[]).expect("a model");
            let candles = json!({ "here": here(&model), "candle_onnx": candle_onnx(Path::new(&path), &model) });
            (path, candles)
        })
        .collect();
    println!("{}", serde_json::Value::from(micros));
}

fn here(model: &Model) -> f64 {
    let columns: Vec<Column> = model.inputs().iter().map(column).collect();
    let input = model.tensors(&DataFrame::new(1, columns).expect("a frame")).expect("its input");
    time(|| drop(model.run(&input).expect("an answer")))
}

/// `None` if it cannot run the model.
fn candle_onnx(path: &Path, model: &Model) -> Option<f64> {
    let proto = candle_onnx::read_file(path).expect("an ONNX file");
    let tensor = |input: &InputSpec| {
        let tensor = Tensor::from_vec(numbers(input), input.shape.as_slice(), &Device::Cpu).expect("a tensor");
        (input.name.clone(), tensor.to_dtype(candle_core::DType::F32).expect("floats"))
    };
    let inputs: HashMap<String, Tensor> = model.inputs().iter().map(tensor).collect();
    let run = || candle_onnx::simple_eval(&proto, inputs.clone());
    catch_unwind(AssertUnwindSafe(run)).ok()?.ok()?;
    Some(time(|| drop(run().expect("an answer"))))
}

/// The microseconds of one run.
fn time(run: impl Fn()) -> f64 {
    let mut times: Vec<f64> = (0..TIMES)
        .map(|_| {
            let started = Instant::now();
            (0..RUNS).for_each(|_| run());
            started.elapsed().as_secs_f64() * 1e6 / f64::from(RUNS)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[TIMES / 2]
}

/// A list of what the input takes.
fn column(input: &InputSpec) -> Column {
    let list: ListChunked = [Series::new("".into(), numbers(input))].into_iter().collect();
    list.with_name(input.name.as_str().into()).into_column()
}

fn numbers(input: &InputSpec) -> Vec<f64> {
    (0..input.elements()).map(|at| (at % 7) as f64 / 7.0).collect()
}
