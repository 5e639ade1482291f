//! `cargo bench --bench model -- FILE…`: the microseconds of one run of each model, the median of many, as JSON.

use std::path::Path;
use std::time::Instant;

use nova::model::{InputSpec, Model};
use polars::prelude::{Column, DataFrame, IntoColumn as _, ListChunked, NamedFrom as _, Series};

/// Runs that are timed together, and how often.
const RUNS: u32 = 200;
const TIMES: usize = 15;

fn main() {
    let paths = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let micros: serde_json::Map<_, _> = paths.map(|path| (path.clone(), time(Path::new(&path)).into())).collect();
    println!("{}", serde_json::Value::from(micros));
}

fn time(path: &Path) -> f64 {
    let model = Model::load(path).expect("a model");
    let columns: Vec<Column> = model.inputs().iter().map(column).collect();
    let input = model.tensors(&DataFrame::new(1, columns).expect("a frame")).expect("its input");
    let mut times: Vec<f64> = (0..TIMES)
        .map(|_| {
            let started = Instant::now();
            (0..RUNS).for_each(|_| drop(model.run(&input).expect("an answer")));
            started.elapsed().as_secs_f64() * 1e6 / f64::from(RUNS)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[TIMES / 2]
}

/// A list of what the input takes.
fn column(input: &InputSpec) -> Column {
    let numbers: Vec<f64> = (0..input.elements()).map(|at| (at % 7) as f64 / 7.0).collect();
    let list: ListChunked = [Series::new("".into(), numbers)].into_iter().collect();
    list.with_name(input.name.as_str().into()).into_column()
}
