#!/usr/bin/env bash
# EZKL 23.0.5: gen_witness checks no equality constraint. Reciprocal (and with it division, softmax, 1/sqrt, softsign, layer
# normalisation) claims its output, rounded away from zero at a tie, and the circuit demands that one less be strictly worse: at
# x = 2^(scale + 1) both are as good. The witness is made without error, with all its figures inside the settings; mock fails; prove says
# True; verify raises. See `recip` and `optimum_convex_function` in EZKL's src/circuit/ops/layouts.rs.
# Seen: 255 and 257 are proven and verified, 256 has a witness and no proof. Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check ezkl==23.0.5 onnx==1.19.1
cat >tie.py <<'PYTHON'
import json
import ezkl, onnx
from onnx import TensorProto, helper

graph = helper.make_graph(
    [helper.make_node("Reciprocal", ["x"], ["y"])], "tie", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "model.onnx")
args = ezkl.PyRunArgs()
args.input_scale = args.param_scale = 7
args.decomp_base, args.decomp_legs, args.num_inner_cols, args.logrows = 1024, 3, 1, 11
assert ezkl.gen_settings("model.onnx", "settings.json", py_run_args=args)
assert ezkl.compile_circuit("model.onnx", "model.ezkl", "settings.json")
ezkl.gen_srs("kzg.srs", 11)
assert ezkl.setup("model.ezkl", "vk", "pk", "kzg.srs")


def holds(call, *arguments):
    try:
        return bool(call(*arguments))
    except RuntimeError:
        return False


seen = {}
for x in (255.0, 256.0, 257.0):
    witness = ezkl.gen_witness(json.dumps({"input_data": [[x]]}), "model.ezkl", "witness.json")
    assert witness["max_range_size"] <= 1023, witness
    mock = holds(ezkl.mock, "witness.json", "model.ezkl")
    proved = holds(ezkl.prove, "witness.json", "model.ezkl", "pk", "proof.json", "kzg.srs")
    seen[x] = (mock, proved, holds(ezkl.verify, "proof.json", "settings.json", "vk", "kzg.srs"))
    print(f"ezkl {ezkl.__version__}: 1/{x:.0f}: a witness; mock {seen[x][0]}, prove {seen[x][1]}, verify {seen[x][2]}")
assert seen == {255.0: (True, True, True), 256.0: (False, True, False), 257.0: (True, True, True)}, seen
PYTHON
venv/bin/python tie.py
