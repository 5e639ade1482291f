//! Hooks of the projects that `ci/fuzz-models` and `ci/ezkl-networks` make: they serve a model of any inputs and outputs.

use std::collections::BTreeMap;

use crate::prelude::*;

/// One List column an input, of the features that `inputs.json` names for it: `{"x": ["x_0", "x_1"]}`.
pub fn pre_process(ctx: &Context, features: DataFrame) -> Result<DataFrame> {
    let text = std::fs::read(ctx.model_files().join("inputs.json")).context("cannot read inputs.json")?;
    let inputs: BTreeMap<String, Vec<String>> = serde_json::from_slice(&text)?;
    let mut columns = Vec::with_capacity(inputs.len());
    for (input, names) in inputs {
        let numbers: Vec<Option<f64>> = names
            .iter()
            .map(|name| {
                let column = features.column(name)?.cast(&DataType::Float64)?;
                Ok(column.f64()?.get(0))
            })
            .collect::<Result<_>>()?;
        columns.push(Series::new(input.into(), [Series::new("".into(), numbers)]).into_column());
    }
    Ok(DataFrame::new(1, columns)?)
}

/// The first number of the first output.
pub fn post_process(_ctx: &Context, output: &ModelOutput) -> Result<f64> {
    output.values.iter().flatten().next().copied().context("the model gives no number")
}
