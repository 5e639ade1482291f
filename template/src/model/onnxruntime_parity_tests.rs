//! Whole models, and operators in their old forms, beside ONNX Runtime: `tests/common/scripts/whole_models.py` makes them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, ensure};
use candle_core::Tensor;

use super::Model;
use super::conformance_tests::tensors;
use super::python_tests::script;
use super::tensor::{floats, type_name};

/// How far each number of an output may be from ONNX Runtime's, relative to its own size.
const TOLERANCE: f64 = 1e-5;
/// What is smaller than this share of the output's largest number is a difference of numbers of that size.
const SMALL: f64 = 0.1;

#[test]
fn whole_models_agree_with_onnx_runtime() {
    let folder = tempfile::tempdir().unwrap();
    script("whole_models.py", &[folder.path()]);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut failed = 0;
    for path in &paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match error_of(path) {
            Ok(error) if error <= TOLERANCE => println!("{name:24} {error:.1e}"),
            Ok(error) => {
                failed += 1;
                println!("{name:24} {error:.1e} is too much");
            }
            Err(error) => {
                failed += 1;
                println!("{name:24} {error:#}");
            }
        }
    }
    assert_eq!(failed, 0);
    assert!(paths.len() > 150, "{} models were made", paths.len());
}

/// The greatest error of a model's outputs.
fn error_of(path: &Path) -> Result<f64> {
    let model = Model::load(&path.join("model.onnx"), &[])?;
    let plan = model.plan.as_ref().map_err(|reason| anyhow!("{reason}"))?;
    let (found, expected) = (plan.run(tensors(path, "input")?)?, tensors(path, "output")?);
    ensure!(found.len() == expected.len(), "{} outputs, not {}", found.len(), expected.len());
    let errors = found.iter().zip(&expected).map(|(found, expected)| relative(found, expected));
    Ok(errors.collect::<Result<Vec<_>>>()?.into_iter().fold(0.0, f64::max))
}

fn relative(found: &Tensor, expected: &Tensor) -> Result<f64> {
    let (types, shapes) = ((found.dtype(), expected.dtype()), (found.dims(), expected.dims()));
    ensure!(types.0 == types.1, "gives {}, not {}", type_name(types.0), type_name(types.1));
    ensure!(shapes.0 == shapes.1, "gives the shape {:?}, not {:?}", shapes.0, shapes.1);
    let (found, expected) = (floats(found)?, floats(expected)?);
    let largest = expected.iter().fold(0.0f64, |largest, one| largest.max(one.abs()));
    let error = |(a, b): (&f64, &f64)| if a == b { 0.0 } else { (a - b).abs() / b.abs().max(SMALL * largest) };
    let error = found.iter().zip(&expected).map(error).fold(0.0, f64::max);
    ensure!(found.iter().all(|one| one.is_finite()), "gives what is no number");
    // Whole numbers and truths are equal or wrong.
    if !types.0.is_float() {
        ensure!(error == 0.0, "gives {found:?}, not {expected:?}");
    }
    Ok(error)
}
