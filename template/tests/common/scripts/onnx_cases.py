"""onnx_cases.py FOLDER: ONNX's own test cases of its operators, a folder each.

Each has model.onnx, its inputs and expected outputs as input_0.pb, output_0.pb and so on, and the tolerances of ONNX's own
runner. Where a value is no tensor (a sequence, an optional), its file is left out and `not_tensors` says so.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases


def proto_of(value) -> TensorProto | None:
    if isinstance(value, TensorProto):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        try:
            return numpy_helper.from_array(np.asarray(value))
        except (KeyError, NotImplementedError, ValueError, RuntimeError):
            return None
    return None


def main() -> None:
    root = Path(sys.argv[1])
    # Some cases draw their numbers; some draw them from what numpy warns of.
    np.random.seed(0)
    warnings.simplefilter("ignore")
    for case in collect_testcases(None):
        for number, (inputs, outputs) in enumerate(case.data_sets or []):
            folder = root / (case.name if number == 0 else f"{case.name}_{number}")
            folder.mkdir()
            (folder / "model.onnx").write_bytes(case.model.SerializeToString())
            (folder / "tolerance").write_text(f"{case.rtol} {case.atol}")
            for kind, values in (("input", inputs), ("output", outputs)):
                for at, value in enumerate(values):
                    proto = proto_of(value)
                    if proto is None:
                        (folder / "not_tensors").touch()
                    else:
                        (folder / f"{kind}_{at}.pb").write_bytes(proto.SerializeToString())


main()
