#!/usr/bin/env bash
# EZKL 23.0.5 (tract): nodes are found by their names, which ONNX does not ask to be unique (onnx.checker takes such a model). Two products
# of one name, as exporters write a layer that is used twice, or a node named as the input, and gen_settings fails with "Translating node
# … MatMulInference ToTypedTranslator", which says nothing of names. Nodes without any name are fine.
# Seen: one name fails, two names and no names pass. Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check ezkl==23.0.5 onnx==1.19.1
cat >names.py <<'PYTHON'
import ezkl, onnx
from onnx import TensorProto, helper, numpy_helper
import numpy as np


def taken(first, second):
    value = lambda name, size: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["s"], name=first), helper.make_node("MatMul", ["x", "v"], ["t"], name=second)]
    weights = [numpy_helper.from_array(np.ones((4, 3), np.float32), "w"), numpy_helper.from_array(np.ones((4, 1), np.float32), "v")]
    graph = helper.make_graph(nodes, "names", [value("x", 4)], [value("s", 3), value("t", 1)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, "model.onnx")
    try:
        return ezkl.gen_settings("model.onnx", "settings.json")
    except RuntimeError as error:
        return f"{error}".splitlines()[-1]


seen = {names: taken(*names) for names in (("layer", "layer"), ("first", "x"), ("first", "second"), ("", ""))}
for names, outcome in seen.items():
    print(f"ezkl {ezkl.__version__}: nodes {names}: {outcome}")
assert seen["first", "second"] is True and seen["", ""] is True, seen
assert all("Translating node" in seen[names] for names in (("layer", "layer"), ("first", "x"))), seen
PYTHON
venv/bin/python names.py
