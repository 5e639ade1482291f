"""mixed_project.py TOOLS FOLDER: a pipeline over numbers with gaps and strings, as scikit-learn fits it, with a linear model behind it:
writes preprocessing.json, model.onnx, rows.csv and rows.json into FOLDER, and prints what the model says of each row."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

sys.path.insert(0, sys.argv[1])
import export_preprocessing  # noqa: E402

folder, rows = Path(sys.argv[2]), 260
rng = np.random.default_rng(7)
frame = pd.DataFrame({
    "wallet_address": [f"0x{row:040x}" for row in range(rows)],
    "age": np.round(rng.uniform(1, 9, rows), 3),
    "debt": np.round(rng.normal(2, 1, rows), 3),
    "tier": rng.choice(["gold", "silver", "tin can"], rows),
    "region": rng.choice(["1", "2", "north"], rows),
    "defi_user": rng.choice([True, False], rows),
    "unused": np.where(rng.random(rows) < 0.5, np.nan, 1.0),
    "note": ["nothing uses it"] * rows,
})
frame.loc[::5, "debt"] = np.nan
frame.loc[::7, "tier"] = None
# In no row both are missing.
frame.loc[::35, "tier"] = "gold"
pipeline = ColumnTransformer([
    ("numbers", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["age", "debt"]),
    ("words", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")), ["tier"]),
    ("codes", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["region"]),
    ("kept", "passthrough", ["defi_user"]),
]).fit(frame)
made = pipeline.transform(frame).astype(np.float32)
weights = np.linspace(-0.4, 0.6, made.shape[1], dtype=np.float32)[:, None]
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["sum"]), helper.make_node("Add", ["sum", "b"], ["y"])], "mixed",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, made.shape[1]])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
    [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(np.float32([5]), "b")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.save(model, folder / "model.onnx")
(folder / "preprocessing.json").write_text(json.dumps(export_preprocessing.export(pipeline)))
frame.to_csv(folder / "rows.csv", index=False)
frame.to_json(folder / "rows.json", orient="records")
print(json.dumps([float(value) + 5 for value in (made @ weights)[:, 0]]))
