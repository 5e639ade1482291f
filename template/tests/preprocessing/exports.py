"""exports.py TOOLS FOLDER: writes into FOLDER what tools/export_preprocessing.py must refuse, and what it must take, and exports
each as its command line does; prints a line of JSON for each: what it must say and said, and the file written."""

import contextlib
import io
import json
import pickle
import sys
import warnings
from pathlib import Path
from unittest import mock

import joblib
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (Binarizer, FunctionTransformer, KBinsDiscretizer, OneHotEncoder, QuantileTransformer,
                                   StandardScaler)

sys.path[:0] = [sys.argv[1], str(Path(__file__).parent)]
import export_preprocessing  # noqa: E402
from data import categories, numeric  # noqa: E402

warnings.simplefilter("ignore")
folder = Path(sys.argv[2])
numbers, words = numeric(50, 0), categories(50, 0)


def pickled(fitted, path: Path):
    path.write_bytes(pickle.dumps(fitted))


def of_another_version(fitted, path: Path):
    """As one that another scikit-learn has saved, whose objects lack an attribute of today's."""
    del fitted.remainder
    with mock.patch("sklearn.base.__version__", "1.0.0"):
        joblib.dump(fitted, path)


def case(fitted, says: list[str], *arguments: str, dump=joblib.dump):
    path = folder / f"{len(list(folder.iterdir()))}.bin"
    dump(fitted, path)
    output = path.with_suffix(".json")
    sys.argv = ["export_preprocessing.py", str(path), "--output", str(output), *arguments]
    said = None
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            export_preprocessing.main()
    except SystemExit as refusal:
        said = refusal.code
    print(json.dumps({"says": says, "said": said, "file": output.name if output.exists() else None}))


case(PCA().fit(numbers), ["'pca' (PCA)", "sklearn.decomposition._pca.PCA is not known", "StandardScaler"])
case(make_pipeline(StandardScaler(), Binarizer()).fit(numbers), ["'binarizer' (Binarizer)"], dump=pickled)
case(FeatureUnion([("a", StandardScaler())]).fit(numbers), ["FeatureUnion is not known"])
case(ColumnTransformer([("a", make_pipeline(StandardScaler(), PCA(2)), ["normal", "heavy", "count"])]).fit(numbers),
     ["'columntransformer' (ColumnTransformer): 'a__pca' (PCA)"])
case(ColumnTransformer([("a", StandardScaler(), ["normal"])], transformer_weights={"a": 2}).fit(numbers),
     ["transformer_weights={'a': 2}"])
case(ColumnTransformer([("a", StandardScaler(), ["normal", "normal"])]).fit(numbers), ["'a' takes a column twice"])
case(FunctionTransformer(np.cbrt).fit(numbers), ["func=<ufunc 'cbrt'>", "numpy's log1p"])
case(FunctionTransformer(np.log1p, kw_args={"dtype": np.float32}).fit(numbers), ["kw_args={'dtype'"])
case(KBinsDiscretizer(2, dtype=np.float32).fit(numbers[["normal"]]), ["KBinsDiscretizer", "dtype=", "float32"])
case(SimpleImputer(strategy="constant", fill_value=np.nan).fit(numbers), ["fill_value is missing itself"])
case(StandardScaler().fit(numbers.assign(heavy=np.nan)), ["mean_ of column 'heavy' is nan"])
case(QuantileTransformer(n_quantiles=5).fit(numbers.assign(heavy=np.nan)), ["quantiles_ of column 'heavy' is nan"])
case(OneHotEncoder().fit(words.assign(colour=[b"red"] * 50)), ["categories_ of column 'colour' holds b'red'"])
case(StandardScaler(), ["'standardscaler' (StandardScaler) is not fitted"], "--columns", "a,b")
case(StandardScaler().fit(numbers.to_numpy()), ["without names of columns: give them (--columns)"])
case(StandardScaler().fit(numbers.to_numpy()), ["fitted on 9 columns, and there are 2"], "--columns", "a,b")
case(StandardScaler().fit(numbers.to_numpy()), ["there twice"], "--columns", ",".join("a" * 9))
case(StandardScaler().fit(numbers), ["fitted on the columns ['normal'", "given: ['a', 'b']"], "--columns", "a,b")
case(StandardScaler().fit(numbers), ["absent.json"], "--columns", "absent.json")
case({"mean": 1}, ["'dict' (dict): builtins.dict is not known"], "--columns", "a,b")
case(ColumnTransformer([("a", StandardScaler(), ["normal"])]).fit(numbers),
     ["saved by scikit-learn 1.0.0, and this Python has", "run the exporter where it was fitted"], dump=of_another_version)
case("no pickle", ["cannot read it with joblib or pickle"], dump=lambda text, path: path.write_text(text))

(folder / "names.json").write_text(json.dumps(list(numbers)))
case(StandardScaler().fit(numbers), [])
case(StandardScaler().fit(numbers), [], "--dtype", "float32")
case(StandardScaler().fit(numbers), [], dump=pickled)
case(StandardScaler().fit(numbers.to_numpy()), [], "--columns", ",".join(numbers))
case(StandardScaler().fit(numbers.to_numpy()), [], "--columns", str(folder / "names.json"))
