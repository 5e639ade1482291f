"""cases.py TOOLS: fits every transformer that tools/export_preprocessing.py knows, in its settings, on generated data;
prints a line of JSON for each: its name, what is exported, a frame, and what scikit-learn makes of that frame."""

import json
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (FunctionTransformer, KBinsDiscretizer, MaxAbsScaler, MinMaxScaler, OneHotEncoder,
                                   OrdinalEncoder, PowerTransformer, QuantileTransformer, RobustScaler, StandardScaler)

sys.path[:0] = [sys.argv[1], str(Path(__file__).parent)]
from data import categories, gappy, numeric, outside, positive, with_gaps  # noqa: E402
from export_preprocessing import export  # noqa: E402

warnings.simplefilter("ignore")
ROWS = 400


def told(value):
    """JSON, with numbers that it lacks as {"number": "nan"}."""
    if value is None or isinstance(value, str):
        return value
    value = float(value)
    return value if math.isfinite(value) else {"number": str(value)}


def texts(values):
    """Of strings, what is missing is null."""
    is_text = any(isinstance(value, str) for value in values)
    return [None if is_text and not isinstance(value, str) else value for value in values]


def frame_of(frame: pd.DataFrame):
    return {name: [told(value) for value in texts(frame[name])] for name in frame}


def case(name: str, fitted, frame: pd.DataFrame, dtypes=None, tolerance=None, dtype=None):
    """One line; `expected` is scikit-learn's answer by columns, or null where it refuses the frame. `dtypes` are those of its frame: the
    daemon has f64 in any case. Results of float32 are equal unless there is a `tolerance`."""
    try:
        made = fitted.transform(frame if dtypes is None else frame.astype(dtypes))
        made = made.toarray() if hasattr(made, "toarray") else np.asarray(made)
        expected = [[told(value) for value in texts(column)] for column in made.T]
    except ValueError:
        expected = None
    try:
        names = list(fitted.get_feature_names_out())
    except AttributeError:
        names = None
    line = {"name": name, "exported": export(fitted, dtype=dtype), "frame": frame_of(frame), "names": names, "expected": expected}
    if dtypes is not None:
        line["tolerance"] = tolerance or 0
    print(json.dumps(line, allow_nan=False))


def scalers():
    train = {"whole": numeric, "gappy": gappy}
    for data, make in train.items():
        fit, other = make(ROWS, 0), outside(make(200, 1))
        for name, scaler in {
            "standard": StandardScaler(),
            "standard, mean alone": StandardScaler(with_std=False),
            "standard, scale alone": StandardScaler(with_mean=False),
            "standard, nothing": StandardScaler(with_mean=False, with_std=False),
            "robust": RobustScaler(),
            "robust, unit variance": RobustScaler(unit_variance=True, quantile_range=(10, 95)),
            "robust, center alone": RobustScaler(with_scaling=False),
            "robust, scale alone": RobustScaler(with_centering=False),
            "max abs": MaxAbsScaler(),
            "min max": MinMaxScaler(),
            "min max, range and clip": MinMaxScaler(feature_range=(-3, 0.5), clip=True),
            "yeo-johnson": PowerTransformer(),
            "yeo-johnson, as it comes": PowerTransformer(standardize=False),
            "quantile": QuantileTransformer(n_quantiles=100),
            "quantile, normal": QuantileTransformer(n_quantiles=57, output_distribution="normal"),
            "quantile, one": QuantileTransformer(n_quantiles=1),
            "log1p": FunctionTransformer(np.log1p),
            "sqrt": FunctionTransformer(np.sqrt, feature_names_out="one-to-one"),
            "identity": FunctionTransformer(),
        }.items():
            # Numbers that are near one another make a power that no double holds.
            bends = isinstance(scaler, PowerTransformer)
            columns = ["normal", "heavy", "count", "negative", "ties", "zero"] if bends else list(fit)
            rows = make(200, 1)[columns] if bends else other
            case(f"{name} ({data})", scaler.fit(fit[columns]), rows)
    checked = FunctionTransformer(np.log1p, validate=True).fit(numeric(ROWS, 0))
    for data, make in train.items():
        case(f"log1p, validated ({data})", checked, make(200, 1))
    fit, other = positive(ROWS, 0), positive(200, 1)
    for standardize in (True, False):
        box_cox = PowerTransformer(method="box-cox", standardize=standardize).fit(fit[["heavy", "small", "count"]])
        case(f"box-cox, standardize={standardize}", box_cox, other[["heavy", "small", "count"]])
    case("box-cox of what is not positive", box_cox, other[["heavy", "small", "count"]] - 1)
    case("an infinite number", StandardScaler().fit(fit), other.assign(heavy=np.inf))
    case("an infinite number, through log1p", FunctionTransformer(np.log1p).fit(fit), other.assign(heavy=-1.0, small=np.inf))


def imputers():
    fit, other = gappy(ROWS, 0), gappy(200, 1)
    for strategy in ("mean", "median", "most_frequent", "constant"):
        for indicator in (False, True):
            imputer = SimpleImputer(strategy=strategy, add_indicator=indicator)
            case(f"impute {strategy}, indicator={indicator}", imputer.fit(fit), other)
    case("impute -1 for gaps", SimpleImputer(strategy="constant", fill_value=-1).fit(fit), other)
    holes = fit.assign(tiny=np.nan)
    case("impute, a column without numbers", SimpleImputer(add_indicator=True).fit(holes), other)
    case("impute, a column without numbers kept", SimpleImputer(keep_empty_features=True).fit(holes), other)
    marked, rows = fit.fillna(-1), other.fillna(-1)
    case("impute where -1 is missing", SimpleImputer(missing_values=-1, add_indicator=True).fit(marked), rows)
    case("impute where -1 is missing, NaN", SimpleImputer(missing_values=-1).fit(marked), other)
    words = with_gaps(categories(ROWS, 0)[["colour", "only"]], ["colour", "only"], np.nan)
    rows = with_gaps(categories(50, 1)[["colour", "only"]], ["colour"], np.nan)
    for strategy in ("most_frequent", "constant"):
        case(f"impute strings, {strategy}", SimpleImputer(strategy=strategy, add_indicator=True).fit(words), rows)
    marked, rows = words.fillna("?"), rows.fillna("?")
    case("impute where ? is missing", SimpleImputer(missing_values="?", strategy="most_frequent").fit(marked), rows)


def encoders():
    fit, other, unseen = categories(ROWS, 0), categories(200, 1), categories(200, 1, unseen=True)
    gaps = ["colour", "level", "rate"]
    fit_gaps = with_gaps(fit, gaps, np.nan)
    for name, encoder in {
        "": OneHotEncoder(),
        ", dense": OneHotEncoder(sparse_output=False, dtype=np.int32),
        ", drop first": OneHotEncoder(drop="first"),
        ", drop if binary": OneHotEncoder(drop="if_binary"),
        ", drop some": OneHotEncoder(drop=["green", 2, 0.1, True, "x"]),
        ", ignore": OneHotEncoder(handle_unknown="ignore"),
        ", ignore and drop": OneHotEncoder(handle_unknown="ignore", drop="first"),
        ", infrequent": OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.2),
        ", infrequent and drop": OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=3, drop="first"),
        ", warn": OneHotEncoder(handle_unknown="warn", min_frequency=100),
        ", given": OneHotEncoder(handle_unknown="ignore", categories=[
            ["red", "black"], [2, 3], [0.1, 0.2], [False, True], ["x", "y"]]),
    }.items():
        if name != ", given":
            case(f"one-hot{name}", encoder.fit(fit), other)
        case(f"one-hot{name}, unseen", encoder.fit(fit), unseen)
        if name != ", drop some":
            case(f"one-hot{name}, gaps", encoder.fit(fit_gaps), with_gaps(other, gaps, np.nan))
            case(f"one-hot{name}, gaps and unseen", encoder.fit(fit_gaps), with_gaps(unseen, gaps, np.nan))
            case(f"one-hot{name}, gaps in use alone", encoder.fit(fit), with_gaps(other, gaps, np.nan))
    unknown = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
    for name, encoder in {
        "": OrdinalEncoder(),
        ", unknown -1": OrdinalEncoder(**unknown),
        ", unknown NaN": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan),
        ", missing -2": OrdinalEncoder(encoded_missing_value=-2, **unknown),
        ", infrequent": OrdinalEncoder(min_frequency=0.2, **unknown),
        ", at most 3": OrdinalEncoder(max_categories=3, encoded_missing_value=-2, **unknown),
        ", given": OrdinalEncoder(categories=[["red", "blue"], [1, 2, 3, 4], [-0.0, 0.1, 0.2, 0.3, 0.30000000000000004], [False, True], ["x"]], **unknown),
    }.items():
        if name != ", given":
            case(f"ordinal{name}", encoder.fit(fit), other)
            case(f"ordinal{name}, gaps", encoder.fit(fit_gaps), with_gaps(other, gaps, np.nan))
            case(f"ordinal{name}, gaps and unseen", encoder.fit(fit_gaps), with_gaps(unseen, gaps, np.nan))
        encoder.fit(fit[fit["colour"].isin(["red", "blue"])] if name == ", given" else fit)
        case(f"ordinal{name}, unseen", encoder, unseen)
        case(f"ordinal{name}, gaps in use alone", encoder, with_gaps(other, gaps, np.nan))


def bins():
    # scikit-learn itself fails on bins that are narrower than 1e-8.
    fit, other = numeric(ROWS, 0).drop(columns="tiny"), outside(numeric(200, 1)).drop(columns="tiny")
    for strategy in ("uniform", "quantile", "kmeans"):
        for encode in ("ordinal", "onehot", "onehot-dense"):
            binner = KBinsDiscretizer(n_bins=[5, 4, 3, 7, 2, 2, 9, 4], strategy=strategy, encode=encode, subsample=None,
                                      random_state=0)
            case(f"bins, {strategy}, {encode}", binner.fit(fit), other)
    case("bins, gaps", binner.fit(fit), gappy(200, 1).drop(columns="tiny"))


def compositions():
    numbers, words = ["normal", "heavy", "count", "gaps"], ["colour", "level"]
    frames = [pd.concat([numeric(rows, seed), gappy(rows, seed)[["normal"]].rename(columns={"normal": "gaps"}),
                         categories(rows, seed)], axis=1) for rows, seed in ((ROWS, 0), (200, 1))]
    filled = Pipeline([("impute", SimpleImputer(strategy="median", add_indicator=True)), ("none", "passthrough"),
                       ("scale", StandardScaler())])
    split = ColumnTransformer([
        ("num", filled, numbers),
        ("log", make_pipeline(FunctionTransformer(np.log1p, feature_names_out="one-to-one"), MinMaxScaler()), ["heavy"]),
        ("one_hot", OneHotEncoder(handle_unknown="ignore"), words),
        ("kept", "passthrough", ["rate"]),
        ("gone", "drop", ["only"]),
        ("none", StandardScaler(), []),
    ])
    case("columns by name, the rest dropped", split.fit(frames[0]), frames[1])
    # Other columns, and another order of them, change nothing.
    case("columns by name, in another order", split.fit(frames[0]), frames[1][sorted(frames[1])].assign(more=1.0))
    rest = ColumnTransformer([("a", StandardScaler(), slice(1, 3)), ("b", RobustScaler(), [-1, 0]),
                              ("c", "drop", [3])], remainder="passthrough", verbose_feature_names_out=False)
    case("columns by place, the rest passed through", rest.fit(numeric(ROWS, 0)), numeric(200, 1))
    rest = ColumnTransformer([("a", MaxAbsScaler(), [True] + 8 * [False])], remainder=make_pipeline(StandardScaler()))
    case("columns by mask, the rest scaled", rest.fit(numeric(ROWS, 0)), numeric(200, 1))
    kinds = ColumnTransformer([
        ("words", OrdinalEncoder(), make_column_selector(dtype_exclude=["number", "bool"])),
        ("numbers", QuantileTransformer(n_quantiles=20), make_column_selector(pattern="^(heavy|ties)$"))])
    case("columns by kind", kinds.fit(frames[0]), frames[1])
    nested = Pipeline([("split", split), ("again", ColumnTransformer(
        [("some", PowerTransformer(), [0, 1, 2]), ("inner", Pipeline([("bins", KBinsDiscretizer(3, encode="ordinal"))]), [4])],
        remainder=SimpleImputer())), ("last", StandardScaler(with_mean=False))])
    case("columns of columns", nested.fit(frames[0]), frames[1])
    pandas = ColumnTransformer([("a", StandardScaler(), ["heavy"])], remainder="passthrough").set_output(transform="pandas")
    case("output as a data frame", make_pipeline(pandas, MinMaxScaler()).fit(numeric(ROWS, 0)), numeric(200, 1))


def in_float32():
    """Fitted as notebooks do to halve memory: on a frame of float32. What is decided by comparisons is then decided otherwise."""
    single, power = np.float32, 2e-6
    plain, other = numeric(ROWS, 0).drop(columns="tiny"), outside(numeric(200, 1)).drop(columns="tiny")
    holes, other_holes = gappy(ROWS, 0).drop(columns="tiny"), gappy(200, 1).drop(columns="tiny")
    for name, scaler, tolerance in (
        ("standard", StandardScaler(), None), ("robust", RobustScaler(), None), ("max abs", MaxAbsScaler(), None),
        ("min max", MinMaxScaler(), None), ("min max, clip", MinMaxScaler(feature_range=(-3, 0.5), clip=True), None),
        ("quantile", QuantileTransformer(n_quantiles=100), None),
        ("quantile, normal", QuantileTransformer(n_quantiles=57, output_distribution="normal"), power),
        ("log1p", FunctionTransformer(np.log1p), power), ("sqrt", FunctionTransformer(np.sqrt), None),
        ("identity", FunctionTransformer(), None),
    ):
        told = "float32" if isinstance(scaler, (StandardScaler, FunctionTransformer)) else None
        for data, fit, rows in (("whole", plain, other), ("gappy", holes, other_holes)):
            case(f"float32, {name} ({data})", scaler.fit(fit.astype(single)), rows, single, tolerance, told)
    bent = ["normal", "heavy", "count", "ties"]
    case("float32, yeo-johnson", PowerTransformer().fit(plain[bent].astype(single)), numeric(200, 1)[bent], single, 1e-5)
    for strategy in ("mean", "median", "most_frequent"):
        imputer = SimpleImputer(strategy=strategy, add_indicator=True).fit(holes.astype(single))
        case(f"float32, impute {strategy}", imputer, other_holes, single)
    marked = SimpleImputer(missing_values=0.1, strategy="constant", fill_value=0.7).fit(plain[["ties"]].astype(single))
    case("float32, impute where 0.1 is missing", marked, other[["ties"]], single)
    for strategy in ("uniform", "quantile", "kmeans"):
        for encode in ("ordinal", "onehot"):
            binner = KBinsDiscretizer(4, strategy=strategy, encode=encode, subsample=None, random_state=0)
            case(f"float32, bins, {strategy}, {encode}", binner.fit(plain.astype(single)), other, single)
    rates, unseen = (categories(ROWS, seed, seed == 1)[["rate", "level"]] for seed in (0, 1))
    unknown = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
    for name, encoder in {"one-hot": OneHotEncoder(handle_unknown="ignore"), "ordinal": OrdinalEncoder(**unknown)}.items():
        # Each column of a frame keeps its type.
        for dtypes in ({"rate": single}, {"rate": single, "level": single}):
            case(f"float32, {name}, {len(dtypes)} of 2", encoder.fit(rates.astype(dtypes)), unseen, dtypes)
            case(f"float32, {name}, {len(dtypes)} of 2, float64 in use", encoder, unseen.round(1), dtypes)
    chain = make_pipeline(SimpleImputer(), StandardScaler(), KBinsDiscretizer(5, encode="ordinal", strategy="uniform"))
    case("float32, a chain", chain.fit(holes.astype(single)), other_holes, single)
    split = ColumnTransformer([
        ("tier", OneHotEncoder(handle_unknown="ignore"), ["ties"]), ("bin", KBinsDiscretizer(4, encode="ordinal"), ["heavy"]),
        ("scaled", StandardScaler(), ["timestamp", "normal"]), ("kept", "passthrough", ["count", "heavy"])])
    case("float32, columns", split.fit(plain.astype(single)), other, single)
    case("float32, columns, then scaled", make_pipeline(split, StandardScaler(with_mean=False)).fit(plain.astype(single)), other,
         single, 1e-12)


def with_a_model():
    """The model at the end goes to ONNX."""
    frame = numeric(ROWS, 0)
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, frame["normal"] > 0)
    line = {"name": "a model at the end", "exported": export(fitted), "frame": frame_of(frame), "names": list(frame),
            "expected": [list(column) for column in fitted[:-1].transform(frame).T]}
    print(json.dumps(line))


for part in (scalers, imputers, encoders, bins, compositions, in_float32, with_a_model):
    part()
