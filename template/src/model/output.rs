//! What a model answers, whichever engine computed it.

use anyhow::{Result, anyhow, bail};

/// The outputs of one run of the model: names, shapes and values.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelOutput {
    /// The outputs' names, in the model's order.
    pub names: Vec<String>,
    /// The shape of each.
    pub shapes: Vec<Vec<usize>>,
    /// The values of each, row by row.
    pub values: Vec<Vec<f64>>,
}

impl ModelOutput {
    /// Outputs by name, shape and values.
    pub fn new(names: Vec<String>, shapes: Vec<Vec<usize>>, values: Vec<Vec<f64>>) -> Self {
        Self { names, shapes, values }
    }

    /// The one value of a model that answers with one number.
    pub fn scalar(&self) -> Result<f64> {
        match self.values.as_slice() {
            [one] if one.len() == 1 => Ok(one[0]),
            _ => bail!(
                "the model's output is not one number but {}: take what you need with `output.values(name)`",
                self.described()
            ),
        }
    }

    /// The values of the output of that name.
    pub fn values(&self, name: &str) -> Result<&[f64]> {
        let at = self.names.iter().position(|other| other == name);
        at.and_then(|at| self.values.get(at))
            .map(Vec::as_slice)
            .ok_or_else(|| anyhow!("the model has no output {name:?}: it has {}", self.described()))
    }

    /// The same outputs with other values: the circuit's in place of candle's.
    pub fn with_values(&self, values: Vec<Vec<f64>>) -> Self {
        Self { values, ..self.clone() }
    }

    fn described(&self) -> String {
        let outputs = self.names.iter().zip(&self.shapes);
        let each: Vec<_> = outputs.map(|(name, shape)| format!("{name} {shape:?}")).collect();
        each.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> ModelOutput {
        ModelOutput::new(
            vec!["label".into(), "odds".into()],
            vec![vec![1], vec![1, 2]],
            vec![vec![1.0], vec![0.25, 0.75]],
        )
    }

    #[test]
    fn one_number_is_a_scalar() {
        let one = ModelOutput::new(vec!["y".into()], vec![vec![1, 1]], vec![vec![0.5]]);
        assert_eq!(one.scalar().unwrap(), 0.5);
        assert_eq!(one.with_values(vec![vec![0.25]]).scalar().unwrap(), 0.25);
    }

    #[test]
    fn what_is_no_scalar_says_what_it_is() {
        let error = two().scalar().unwrap_err().to_string();
        assert!(error.contains("label [1], odds [1, 2]"), "{error}");
    }

    #[test]
    fn outputs_are_found_by_name() {
        assert_eq!(two().values("odds").unwrap(), [0.25, 0.75]);
        let error = two().values("x").unwrap_err().to_string();
        assert!(error.contains(r#"no output "x""#), "{error}");
    }
}
