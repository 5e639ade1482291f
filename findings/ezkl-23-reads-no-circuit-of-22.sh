#!/usr/bin/env bash
# EZKL 23.0.5 cannot read a circuit that 22.3.0 compiled ("failed to ser/deser model"), so it proves nothing that was answered with it; it
# does read the settings, and verifies a proof of 22.3.0. 22.3.0 refuses proofs of 23.0.5 (no field `transcript_type`) and aborts on its
# circuits. So an upgrade orphans every open promise unless the old EZKL is kept (NOVA_PYTHONS).
# Seen: prove fails across the versions, verify of the older proof is True. Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for version in 22.3.0 23.0.5; do
  python3 -m venv "$version"
  "$version/bin/pip" install --quiet --disable-pip-version-check "ezkl==$version"
done
python3 -m venv onnx
onnx/bin/pip install --quiet --disable-pip-version-check onnx==1.19.1
cat >model.py <<'PYTHON'
import onnx
from onnx import TensorProto, helper

graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "twice",
                          [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "model.onnx")
PYTHON
cat >setup.py <<'PYTHON'
import json
import ezkl

json.dump({"input_data": [[0.5, -0.5]]}, open("input.json", "w"))
arguments = ezkl.PyRunArgs()
# A small circuit: proven in a second.
arguments.logrows, arguments.decomp_base, arguments.decomp_legs, arguments.num_inner_cols = 10, 128, 3, 1
assert ezkl.gen_settings("model.onnx", "settings.json", py_run_args=arguments)
assert ezkl.compile_circuit("model.onnx", "model.ezkl", "settings.json")
logrows = json.load(open("settings.json"))["run_args"]["logrows"]
ezkl.gen_srs("kzg.srs", logrows)
ezkl.gen_witness("input.json", "model.ezkl", "witness.json")
assert ezkl.setup("model.ezkl", "vk", "pk", "kzg.srs")
ezkl.prove(witness="witness.json", model="model.ezkl", pk_path="pk", proof_path="proof.json", srs_path="kzg.srs")
PYTHON
cat >later.py <<'PYTHON'
import ezkl

files = {"settings_path": "settings.json", "vk_path": "vk", "srs_path": "kzg.srs"}
verified = ezkl.verify(proof_path="proof.json", **files)
try:
    ezkl.prove(witness="witness.json", model="model.ezkl", pk_path="pk", proof_path="again.json", srs_path="kzg.srs")
    refused = None
except RuntimeError as error:
    refused = f"{error}"
print(f"ezkl {ezkl.__version__}, files of 22.3.0: verify {verified}, prove: {refused}")
assert verified is True and refused and "failed to ser/deser model" in refused
PYTHON
onnx/bin/python model.py
22.3.0/bin/python setup.py 2>setup.log || { cat setup.log >&2; exit 1; }
23.0.5/bin/python later.py
