//! Everything a hook usually needs: `use crate::prelude::*;`

pub use anyhow::{Context as _, Result, anyhow, bail, ensure};
pub use polars::prelude::{
    Column, DataFrame, DataType, Expr, IntoColumn, IntoLazy, NamedFrom, Series, all, col, concat_list, df, lit, when,
};

pub use crate::context::Context;
pub use crate::model::ModelOutput;
pub use crate::preprocess::Preprocessor;
