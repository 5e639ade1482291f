#!/usr/bin/env python3
"""Writes a fitted scikit-learn transformer or pipeline as the JSON file that the daemon's `ctx.preprocessor` reads.

    export_preprocessing.py FITTED [--columns NAMES] [--dtype float64] [--output model_files/preprocessing.json]

FITTED was written by joblib or pickle; reading it runs what is in it, so take your own files only. NAMES are the features
in the order of training, as a,b,c or as a JSON file with a list of them. They are needed if the pipeline was fitted on an
array; one that was fitted on a data frame knows them. In a notebook: `export_preprocessing.export(pipeline, names)`.

A transformer that was fitted on float32 computes in float32, and so does the daemon. Most tell; for those that do not (StandardScaler,
FunctionTransformer) the others of the pipeline decide, or --dtype.

What it does not know it refuses by name. A model at the end of a pipeline is left out: that goes to ONNX.
"""

import argparse
import functools
import inspect
import json
import math
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils.validation import NotFittedError, check_is_fitted

FUNCTIONS = {"identity": None, "log1p": np.log1p, "sqrt": np.sqrt}


class Refused(Exception):
    """Something that cannot be exported; its text says what, where, and what to do."""


def numbers(values, what: str, columns: list[str]) -> list[float]:
    """One finite number a column."""
    found = [float(value) for value in values]
    if len(found) != len(columns):
        raise Refused(f"{what} has {len(found)} entries for {len(columns)} columns")
    for value, column in zip(found, columns):
        if not math.isfinite(value):
            raise Refused(f"{what} of column {column!r} is {value}: the column had nothing to learn from")
    return found


def is_missing(value) -> bool:
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value))


def scalar(value, what: str) -> float | str | None:
    """A number, a string, or None for what is missing."""
    if is_missing(value):
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)) and math.isfinite(value):
        return float(value)
    raise Refused(f"{what} holds {value!r}, which is neither a number nor a string")


def unique(names: list[str]) -> list[str]:
    """The same names, numbered where one is there again."""
    seen: set[str] = set()
    for at, name in enumerate(names):
        number = 2
        while name in seen:
            name, number = f"{names[at]}_{number}", number + 1
        seen.add(name)
        names[at] = name
    return names


# What a transformer was fitted in, where it tells: float32, float64, or None.


def of_arrays(*arrays) -> str | None:
    """By the type of what it learnt."""
    dtypes = {str(array.dtype) for array in arrays if array is not None and array.dtype.kind == "f"}
    return dtypes.pop() if len(dtypes) == 1 and dtypes <= {"float32", "float64"} else None


def of_values(values) -> str | None:
    """By what it learnt, where NumPy made float64 of it: values of the data itself."""
    values = np.concatenate([np.asarray(of, float).ravel() for of in values])
    values = values[np.isfinite(values)]
    single = values.astype(np.float32)
    if (single != values).any():
        return "float64"
    # 0.10000000149011612 is what float32 makes of 0.1; 0.5 is in both.
    return "float32" if any(len(repr(float(value))) > len(str(of)) + 2 for value, of in zip(values, single)) else None


def of_edges(fitted) -> str | None:
    dtype = of_arrays(*fitted.bin_edges_)
    # Of quantiles the first and the last are values of the data.
    return dtype if dtype == "float32" else of_values([edges[[0, -1]] for edges in fitted.bin_edges_])


def of_imputer(fitted) -> str | None:
    kind = np.dtype(fitted._fit_dtype) if hasattr(fitted, "_fit_dtype") else fitted.statistics_.dtype
    return str(kind) if kind in (np.float32, np.float64) else None


DTYPES = {
    KBinsDiscretizer: of_edges,
    MaxAbsScaler: lambda fitted: of_arrays(fitted.max_abs_),
    MinMaxScaler: lambda fitted: of_arrays(fitted.data_min_),
    PowerTransformer: lambda fitted: of_arrays(np.asarray(fitted.lambdas_)),
    QuantileTransformer: lambda fitted: of_values([fitted.quantiles_[[0, -1]]]),
    RobustScaler: lambda fitted: of_arrays(getattr(fitted, "center_", None)),
    SimpleImputer: of_imputer,
}


def leaves(transformer):
    """All transformers in it, from left to right."""
    if type(transformer) is Pipeline:
        parts = [part for _, part in transformer.steps]
    elif type(transformer) is ColumnTransformer:
        parts = [part for _, part, _ in getattr(transformer, "transformers_", [])]
    else:
        parts = []
        yield transformer
    for part in parts:
        yield from leaves(part)


def own_dtypes(transformer) -> set[str]:
    """What a fitted transformer tells of the numbers that it saw."""
    if isinstance(transformer, (OneHotEncoder, OrdinalEncoder)):
        return {str(of.dtype) for of in getattr(transformer, "categories_", []) if of.dtype in (np.float32, np.float64)}
    try:
        told = DTYPES.get(type(transformer), lambda _: None)(transformer)
    except AttributeError:  # it is not fitted, which is told elsewhere
        return set()
    return {told} - {None}


@functools.cache
def single_parameters() -> bool:
    """Whether this scikit-learn rounds the parameters of a StandardScaler where it computes in float32, as 1.8 and later do."""
    rows = np.linspace(0.1, 7.7, 64, dtype=np.float32)[:, None]
    probe = StandardScaler().fit(rows)
    rounded = (rows - probe.mean_.astype(np.float32)) / probe.scale_.astype(np.float32)
    return bool((probe.transform(rows) == rounded).all())


# One function a class: the fitted transformer and the names of its columns → its parameters, and the names of the columns
# that it makes. `get_params` must hold nothing else that matters: `KNOWN` lists the constructor's parameters.


def standard_scaler(fitted, columns):
    return {
        "mean": numbers(fitted.mean_, "mean_", columns) if fitted.with_mean else None,
        "scale": numbers(fitted.scale_, "scale_", columns) if fitted.with_std else None,
    }, columns


def robust_scaler(fitted, columns):
    return {
        "center": numbers(fitted.center_, "center_", columns) if fitted.with_centering else None,
        "scale": numbers(fitted.scale_, "scale_", columns) if fitted.with_scaling else None,
    }, columns


def max_abs_scaler(fitted, columns):
    # `clip` came with scikit-learn 1.8.
    return {"scale": numbers(fitted.scale_, "scale_", columns), "clip": bool(getattr(fitted, "clip", False))}, columns


def min_max_scaler(fitted, columns):
    return {
        "scale": numbers(fitted.scale_, "scale_", columns),
        "min": numbers(fitted.min_, "min_", columns),
        "clip": [float(end) for end in fitted.feature_range] if fitted.clip else None,
    }, columns


def power_transformer(fitted, columns):
    parameters = {"method": fitted.method, "lambdas": numbers(fitted.lambdas_, "lambdas_", columns)}
    if fitted.standardize:
        # scikit-learn keeps the scaler that follows to itself.
        parameters |= standard_scaler(fitted._scaler, columns)[0]
    return parameters, columns


def quantile_transformer(fitted, columns):
    by_column = [numbers(row, "quantiles_", columns) for row in fitted.quantiles_]
    return {
        "quantiles": [list(quantiles) for quantiles in zip(*by_column)],
        "references": [float(share) for share in fitted.references_],
        "output_distribution": fitted.output_distribution,
    }, columns


def simple_imputer(fitted, columns):
    fill = [scalar(value, f"statistics_ of column {column!r}") for value, column in zip(fitted.statistics_, columns)]
    if fitted.strategy == "constant" and None in fill:
        raise Refused("fill_value is missing itself")
    indicator = [int(at) for at in fitted.indicator_.features_] if fitted.add_indicator else []
    output = [column for value, column in zip(fill, columns) if value is not None]
    output += [f"missingindicator_{columns[at]}" for at in indicator]
    return {
        "missing": scalar(fitted.missing_values, "missing_values"),
        "fill": fill,
        "indicator": indicator,
        "output": (output := unique(output)),
    }, output


def unseen(categories: np.ndarray):
    """A value that is not among the categories."""
    if any(isinstance(category, str) for category in categories):
        return max((category for category in categories if isinstance(category, str)), key=len) + "?"
    return 1 + max((category for category in categories if not is_missing(category)), default=0)


def encoded(fitted) -> np.ndarray:
    """What the encoder makes of its categories: row k holds category k of each column, or the last. Where it takes values
    that it has not seen, a row of them is at the end."""
    categories = [np.asarray(of) for of in fitted.categories_]
    dtype = np.float64 if all(of.dtype.kind in "biuf" for of in categories) else object
    rows = range(max(map(len, categories)))
    columns = [[of[min(row, len(of) - 1)] for row in rows] for of in categories]
    if fitted.handle_unknown != "error":
        columns = [column + [unseen(of)] for column, of in zip(columns, categories)]
    grid = np.array(columns, dtype=dtype).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the grid has no names, and dropped categories are no news
        made = fitted.transform(grid)
    return made.toarray() if hasattr(made, "toarray") else np.asarray(made)


def categories_of(fitted, columns):
    return [
        [scalar(category, f"categories_ of column {column!r}") for category in of]
        for of, column in zip(fitted.categories_, columns)
    ]


def dtype_of(categories: np.ndarray) -> dict:
    """An encoder compares each column of a frame in the column's own type."""
    return {"dtype": "float32"} if categories.dtype == np.float32 else {}


def one_hot_encoder(fitted, columns):
    made, offset, output, encodings = encoded(fitted), 0, [], []
    infrequent = getattr(fitted, "infrequent_categories_", None) or [None] * len(columns)
    dropped = fitted.drop_idx_ if fitted.drop_idx_ is not None else [None] * len(columns)
    for at, categories in enumerate(categories_of(fitted, columns)):
        rare = [] if infrequent[at] is None else [scalar(of, "infrequent_categories_") for of in infrequent[at]]
        width = len(categories) - len(rare) + bool(rare) - (dropped[at] is not None)
        own = made[:, offset : offset + width]
        offset += width
        of_rows = [int(row.argmax()) if row.any() else None for row in own]
        places = of_rows[: len(categories)]
        unknown = None if fitted.handle_unknown == "error" else of_rows[-1]
        encodings.append({"categories": categories, "places": places, "unknown": unknown} | dtype_of(fitted.categories_[at]))
        names = {place: fitted.categories_[at][k] for k, place in enumerate(places)}
        names |= {places[categories.index(of)]: "infrequent_sklearn" for of in rare}
        output += [f"{columns[at]}_{names[place]!s}" for place in range(width)]
    if offset != made.shape[1]:
        raise Refused(f"it makes {made.shape[1]} columns, and its attributes tell of {offset}")
    return {
        "columns": encodings,
        "handle_unknown": "error" if fitted.handle_unknown == "error" else "ignore",
        "output": (output := unique(output)),
    }, output


def ordinal_encoder(fitted, columns):
    made = encoded(fitted)
    encodings = [
        {"categories": categories, "codes": [scalar(code, "a code") for code in made[: len(categories), at]]}
        | dtype_of(fitted.categories_[at])
        for at, categories in enumerate(categories_of(fitted, columns))
    ]
    return {
        "columns": encodings,
        "handle_unknown": fitted.handle_unknown,
        "unknown_value": scalar(fitted.unknown_value, "unknown_value"),
    }, columns


def k_bins_discretizer(fitted, columns):
    if fitted.dtype is not None and np.dtype(fitted.dtype) != np.float64:
        raise Refused(f"dtype={fitted.dtype!r}: numbers are float64 here")
    edges = [numbers(of[1:-1], "bin_edges_", [column] * (len(of) - 2)) for of, column in zip(fitted.bin_edges_, columns)]
    if fitted.encode == "ordinal":
        return {"edges": edges, "encode": "ordinal"}, columns
    output = unique([f"{column}_{float(bin)}" for column, of in zip(columns, edges) for bin in range(len(of) + 1)])
    return {"edges": edges, "encode": "onehot", "output": output}, output


def function_transformer(fitted, columns):
    known = [name for name, function in FUNCTIONS.items() if fitted.func is function]
    if not known:
        raise Refused(f"func={fitted.func!r}: known are None, numpy's log1p and numpy's sqrt; compute others in pre_process")
    if fitted.kw_args:
        raise Refused(f"kw_args={fitted.kw_args!r}")
    return {"function": known[0], "validate": bool(fitted.validate)}, columns


def column_transformer(fitted, columns, dtype):
    if fitted.transformer_weights:
        raise Refused(f"transformer_weights={fitted.transformer_weights!r}")
    branches, output, dtypes = [], [], set()
    for name, transformer, _ in fitted.transformers_:
        # Names, positions, slices, masks and functions all have become positions here.
        own = [columns[at] for at in fitted._transformer_to_input_indices[name]]
        if isinstance(transformer, str) and transformer == "drop" or not own:
            continue
        if len(set(own)) < len(own):
            raise Refused(f"transformers: {name!r} takes a column twice")
        steps, made, made_in = convert(name, transformer, own, dtype)
        dtypes.add(made_in)
        if not steps and made_in == "float32":
            # What is passed through is float32 here, too.
            steps = [{"class": "FunctionTransformer", "name": name, "dtype": made_in, "function": "identity", "validate": False}]
        branches.append({"columns": own, "steps": steps})
        output += [(name, column) for column in made]
    names = [column for _, column in output]
    if fitted.verbose_feature_names_out is not False or len(set(names)) < len(names):
        names = unique([f"{name}__{column}" for name, column in output])
    return {"branches": branches, "output": names}, names, "float32" if dtypes == {"float32"} else "float64"


COPY = {"copy"}
CATEGORIES = {"categories", "dtype", "handle_unknown", "max_categories", "min_frequency"}
# Each class with its function, and the parameters that it heeds or that say nothing after fitting.
KNOWN = {
    ColumnTransformer: (column_transformer, {
        "force_int_remainder_cols", "n_jobs", "remainder", "sparse_threshold", "transformer_weights", "transformers",
        "verbose", "verbose_feature_names_out"}),
    FunctionTransformer: (function_transformer, {
        "accept_sparse", "check_inverse", "feature_names_out", "func", "inv_kw_args", "inverse_func", "kw_args",
        "validate"}),
    KBinsDiscretizer: (k_bins_discretizer, {
        "dtype", "encode", "n_bins", "quantile_method", "random_state", "strategy", "subsample"}),
    MaxAbsScaler: (max_abs_scaler, COPY | {"clip"}),
    MinMaxScaler: (min_max_scaler, COPY | {"clip", "feature_range"}),
    OneHotEncoder: (one_hot_encoder, CATEGORIES | {"drop", "feature_name_combiner", "sparse", "sparse_output"}),
    OrdinalEncoder: (ordinal_encoder, CATEGORIES | {"encoded_missing_value", "unknown_value"}),
    PowerTransformer: (power_transformer, COPY | {"method", "standardize"}),
    QuantileTransformer: (quantile_transformer, COPY | {
        "ignore_implicit_zeros", "n_quantiles", "output_distribution", "random_state", "subsample"}),
    RobustScaler: (robust_scaler, COPY | {"quantile_range", "unit_variance", "with_centering", "with_scaling"}),
    SimpleImputer: (simple_imputer, COPY | {
        "add_indicator", "fill_value", "keep_empty_features", "missing_values", "strategy", "verbose"}),
    StandardScaler: (standard_scaler, COPY | {"with_mean", "with_std"}),
}


def check_parameters(transformer, known: set[str]) -> None:
    """A newer scikit-learn's parameter that this script does not know must be at its default."""
    defaults = inspect.signature(type(transformer)).parameters
    for parameter, value in transformer.get_params(deep=False).items():
        if parameter not in known and value is not defaults[parameter].default:
            raise Refused(f"{parameter}={value!r}: the parameter is not known here")


def in_single(parameters: dict) -> dict:
    """Parameters that are themselves float32 in a float32 step."""
    rounded = {}
    if isinstance(parameters.get("missing"), float):
        rounded["missing"] = float(np.float32(parameters["missing"]))
    if single_parameters():
        for name in {"mean", "scale"} & parameters.keys():
            rounded[name] = parameters[name] and [float(np.float32(value)) for value in parameters[name]]
    return parameters | rounded


def convert(name: str, transformer, columns: list[str], dtype: str) -> tuple[list[dict], list[str], str]:
    """The transformer as steps, the names of the columns that they make, and their type. `dtype` is that of the columns that go in."""
    if transformer is None or isinstance(transformer, str) and transformer == "passthrough":
        return [], columns, dtype
    if type(transformer) is Pipeline:
        steps = []
        for part, of in transformer.steps:
            more, columns, dtype = convert(f"{name}__{part}" if name else part, of, columns, dtype)
            steps += more
        return steps, columns, dtype
    kind = type(transformer)
    label = f"{name or kind.__name__.lower()!r} ({kind.__name__})"
    if kind not in KNOWN:
        raise Refused(f"{label}: {kind.__module__}.{kind.__qualname__} is not known; known are Pipeline, "
                      + ", ".join(sorted(known.__name__ for known in KNOWN)))
    function, known = KNOWN[kind]
    step = {"class": kind.__name__, "name": name or kind.__name__.lower()}
    try:
        check_is_fitted(transformer)
        check_parameters(transformer, known)
        # FunctionTransformer learns nothing, not even how many columns there are.
        width = getattr(transformer, "n_features_in_", len(columns))
        if width != len(columns):
            raise Refused(f"it was fitted on {width} columns, and there are {len(columns)}")
        if kind is ColumnTransformer:
            parameters, output, dtype = function(transformer, columns, dtype)
        else:
            parameters, output = function(transformer, columns)
            dtype = next(iter(own_dtypes(transformer)), dtype)
            if kind in (OneHotEncoder, OrdinalEncoder):
                dtype = "float32" if np.dtype(transformer.dtype) == np.float32 else "float64"
            elif dtype == "float32":
                step["dtype"] = dtype
                if kind in (StandardScaler, PowerTransformer, SimpleImputer):
                    parameters = in_single(parameters)
    except NotFittedError:
        raise Refused(f"{label} is not fitted") from None
    except Refused as refused:
        raise Refused(f"{label}: {refused}") from None
    return [step | parameters], output, dtype


def dtype_of_features(transformer, model) -> str:
    """The type of the features, as the transformers and the model tell that learnt from them."""
    told, silent = set(), []
    for leaf in leaves(transformer):
        own = set() if isinstance(leaf, str) or leaf is None else own_dtypes(leaf)
        told |= own
        if not own and isinstance(leaf, (FunctionTransformer, StandardScaler)):
            silent.append(type(leaf).__name__)
    weights = getattr(model, "coefs_", None) or [getattr(model, "coef_", None)]
    told |= {"float32"} if getattr(weights[0], "dtype", None) == np.float32 else set()
    dtype = "float32" if told == {"float32"} else "float64"
    if silent and "float32" in told:
        print(f"taking {' and '.join(sorted(set(silent)))} to be fitted in {dtype}, by the rest of the pipeline: they do not tell; "
              "--dtype says otherwise", file=sys.stderr)
    return dtype


def export(transformer, columns: list[str] | None = None, dtype: str | None = None) -> dict:
    """The document of a fitted transformer or pipeline. `columns` are needed if it was fitted on an array. `dtype` is float32 or float64,
    the type of the features in training, for transformers that do not tell."""
    model = None
    if type(transformer) is Pipeline and not hasattr(last := transformer.steps[-1][1], "transform") and hasattr(last, "predict"):
        print(f"leaving out the last step, {transformer.steps[-1][0]!r}: it is the model", file=sys.stderr)
        model, transformer = last, transformer[:-1]
    own = getattr(transformer, "feature_names_in_", None)
    own = None if own is None else [str(name) for name in own]
    if columns is None and own is None:
        raise Refused("it was fitted on an array, without names of columns: give them (--columns)")
    if columns is not None and own is not None and list(columns) != own:
        raise Refused(f"it was fitted on the columns {own}, and these are given: {list(columns)}")
    columns = own or list(columns)
    if len(set(columns)) < len(columns):
        raise Refused("a name of a column is there twice")
    steps, _, _ = convert("", transformer, columns, dtype or dtype_of_features(transformer, model))
    if steps and steps[0]["class"] == "ColumnTransformer":
        # What it drops may be absent, or hold what it likes.
        used = {column for branch in steps[0]["branches"] for column in branch["columns"]}
        columns = [column for column in columns if column in used]
    return {
        "format": "nova-preprocessing",
        "version": 1,
        "made_by": f"scikit-learn {sklearn.__version__}",
        "columns": columns,
        "steps": steps,
    }


def names_of(text: str) -> list[str]:
    """`--columns`: a,b,c or a JSON file."""
    if not text.endswith(".json"):
        return text.split(",")
    try:
        names = json.loads(Path(text).read_text())
    except (OSError, ValueError) as error:
        raise Refused(f"--columns {text}: {error}") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Refused(f"--columns {text}: expected a list of names")
    return names


def loaded(file: Path) -> tuple[object, str | None]:
    """What the file holds, and what is said where another scikit-learn saved it: its objects may have other attributes."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fitted = joblib.load(file)
    except Exception as error:  # whatever the classes in it raise
        raise Refused(f"cannot read it with joblib or pickle: {type(error).__name__}: {error}") from None
    versions = [one.message.original_sklearn_version for one in caught if issubclass(one.category, InconsistentVersionWarning)]
    said = f"saved by scikit-learn {versions[0]}, and this Python has {sklearn.__version__}" if versions else None
    return fitted, said


def exported(file: Path, names: list[str] | None, dtype: str | None) -> dict:
    fitted, other_version = loaded(file)
    try:
        document = export(fitted, names, dtype)
    except Refused:
        raise
    except Exception as error:
        if other_version is None:
            raise
        raise Refused(f"it was {other_version}, which cannot take it apart ({error}): run the exporter where it was fitted") from None
    if other_version is not None:
        print(f"note: it was {other_version}: hold a row against your notebook with `nova predict --expect`", file=sys.stderr)
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fitted", type=Path, metavar="FITTED")
    parser.add_argument("--columns", metavar="NAMES")
    parser.add_argument("--dtype", choices=["float32", "float64"])
    parser.add_argument("--output", type=Path, default=Path("model_files/preprocessing.json"), metavar="FILE")
    arguments = parser.parse_args()
    try:
        names = None if arguments.columns is None else names_of(arguments.columns)
        document = exported(arguments.fitted, names, arguments.dtype)
    except Refused as refused:
        sys.exit(f"{parser.prog}: {arguments.fitted}: {refused}")
    arguments.output.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    print(f"wrote {arguments.output}: {len(document['columns'])} features, {len(document['steps'])} steps")


if __name__ == "__main__":
    main()
