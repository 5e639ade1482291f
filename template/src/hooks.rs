//! Your side of the daemon: what happens before the model, and after it. Edit this file, and nothing else.
//!
//! Both functions depend on nothing but what they are given: the daemon runs them more than once a request, `post_process` on the
//! circuit's output and on the float model's. An error (`bail!("…")`) or a panic fails that one request and is written down with
//! it; nothing is sent. Look at the result without any chain: `nova predict --features assets/sample.parquet`.

use crate::prelude::*;

/// One request's raw features (a frame with one row) → the model's input (one row, columns in training order).
///
/// All numbers are f64 here, and become the model's own type afterwards. What is missing is null, in requests only where the sample of
/// `nova setup` lacks it too; a string is a string. Columns are computed with polars' expressions,
/// as in Python's polars:
///
/// ```
/// # use nova::prelude::*;
/// # let features = df!("deposit_count" => [3.0], "total_balance_eth" => [2.0], "borrow_count" => [0.0])?;
/// let features = features
///     .lazy()
///     .with_columns([
///         (col("total_balance_eth") + lit(1.0)).log(lit(10.0)).alias("balance_log10"),
///         when(col("deposit_count").gt(lit(0.0)))
///             .then(col("borrow_count") / col("deposit_count"))
///             .otherwise(lit(0.0))
///             .alias("borrows_per_deposit"),
///     ])
///     .collect()?;
/// # assert_eq!(features.column("borrows_per_deposit")?.f64()?.get(0), Some(0.0));
/// # Ok::<(), anyhow::Error>(())
/// ```
///
/// What scikit-learn did before the model `tools/export_preprocessing.py` exports, and `ctx.preprocessor` does here; it takes
/// the columns that it was trained on by their names.
///
/// The model's input is the frame's columns from left to right. A model with several inputs gets one List column an
/// input, named after it: `concat_list([col("a"), col("b")])?.alias("input_1")`.
pub fn pre_process(ctx: &Context, features: DataFrame) -> Result<DataFrame> {
    ctx.preprocessor("preprocessing.json")?.transform(&features)
}

/// The model's output → the value submitted on chain.
///
/// `output.scalar()` is for the usual model, which answers with one number; `output.values("name")` gives all numbers of
/// one output. Where it gives whole numbers (a class, a tier) both outputs must give the same one: near a threshold no answer is given.
pub fn post_process(_ctx: &Context, output: &ModelOutput) -> Result<f64> {
    output.scalar()
}
