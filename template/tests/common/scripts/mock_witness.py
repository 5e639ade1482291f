"""mock_witness.py INPUT MODEL_FILES: makes a witness of INPUT and prints `satisfied`, or why the circuit rejects it."""

import os
import sys
import tempfile

import ezkl

data, folder = sys.argv[1:]
with tempfile.TemporaryDirectory() as scratch:
    witness = os.path.join(scratch, "witness.json")
    # This must work: a witness can be made, and still be unprovable.
    ezkl.gen_witness(data=data, model=f"{folder}/model.ezkl", output=witness)
    try:
        print("satisfied" if ezkl.mock(witness, f"{folder}/model.ezkl") else "refused")
    except RuntimeError as error:
        print(f"refused: {error}")
