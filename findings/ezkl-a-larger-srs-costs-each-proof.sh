#!/usr/bin/env bash
# EZKL 23.0.5 takes an SRS that is larger than the circuit needs, and cuts it down anew in every call: it computes the Lagrange basis of
# the smaller size again, which costs more than the proof. An SRS of exactly the circuit's size (get_srs fetches that one) costs nothing.
# Seen, a circuit of 2^10 rows on one thread: a proof takes about 0.3 s with an SRS of 2^10, and 2.5 s with one of 2^12. Fails where the
# larger one no longer takes twice as long.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check ezkl==23.0.5 onnx==1.19.1
cat >timed.py <<'PYTHON'
import json
import time

import ezkl
import onnx
from onnx import TensorProto, helper

graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "twice",
                          [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "model.onnx")
json.dump({"input_data": [[0.5, -0.5]]}, open("input.json", "w"))
arguments = ezkl.PyRunArgs()
arguments.logrows, arguments.decomp_base, arguments.decomp_legs, arguments.num_inner_cols = 10, 128, 3, 1
ezkl.gen_settings("model.onnx", "settings.json", py_run_args=arguments)
ezkl.compile_circuit("model.onnx", "model.ezkl", "settings.json")
logrows = json.load(open("settings.json"))["run_args"]["logrows"]
for size in (logrows, logrows + 2):
    ezkl.gen_srs(f"{size}.srs", size)
ezkl.gen_witness("input.json", "model.ezkl", "witness.json")
ezkl.setup("model.ezkl", "vk", "pk", f"{logrows}.srs")


def seconds(size):
    start = time.monotonic()
    ezkl.prove(witness="witness.json", model="model.ezkl", pk_path="pk", proof_path="proof.json", srs_path=f"{size}.srs")
    return time.monotonic() - start


# In turns, so that a busy moment meets both; the fastest counts.
rounds = [(seconds(logrows), seconds(logrows + 2)) for _ in range(3)]
exact, larger = (min(times) for times in zip(*rounds))
print(f"2^{logrows} rows: a proof takes {exact:.2f} s with an SRS of its size, {larger:.2f} s with one four times as large")
assert larger > 2 * exact
PYTHON
RAYON_NUM_THREADS=1 venv/bin/python timed.py 2>log || { cat log >&2; exit 1; }
