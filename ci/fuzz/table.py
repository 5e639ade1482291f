"""A table of all operators: what candle, the circuit and EZKL by itself make of each, beside ONNX Runtime."""

import argparse
import re
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

import numpy as np

from circuits import Bare, Ezkl, Refused, Run, Stuck, program, python, use_cores, witness
from fuzz.generator import Case, case_of, leads
from fuzz.graph import Unsuitable
from fuzz.registry import OPERATORS
from fuzz.session import STAMPS
from fuzz.trial import Outcome, compare, reason_of
from project import say

DOCUMENT = Path(__file__).resolve().parents[2] / "template/docs/operators.md"
BEGIN, END = "<!-- ci/operators begin -->", "<!-- ci/operators end -->"
SEED = 23
# Graphs of a seed that are looked through for those of one operator.
MOST_TRIED = 40
# EZKL alone, as far as a witness needs them: the finest scale of its calibration, and room for what the graphs hold.
RUN_ARGS = {"input_scale": 13, "param_scale": 13, "decomp_base": 1024, "decomp_legs": 5, "num_inner_cols": 1, "logrows": 17,
            "lookup_range": [-(2**15), 2**15], "input_visibility": "public", "output_visibility": "public", "param_visibility": "fixed"}


@dataclass
class Found:
    """What the graphs of one operator have shown."""

    graphs: int = 0
    # Graphs that candle runs, and those of which a circuit was made.
    on_candle: int = 0
    circuits: int = 0
    rewritten: list[str] = field(default_factory=list)
    # The circuit's largest difference from ONNX Runtime, as a share of the output's range.
    difference: float = 0.0
    # Of a circuit, for each number of the outputs.
    rows: list[float] = field(default_factory=list)
    alone: Counter = field(default_factory=Counter)

    def as_row(self, name: str) -> list[str]:
        share = {0: "no", self.graphs: "yes"}
        gets = ", ".join(dict.fromkeys(self.rewritten)) or "as it is"
        if self.circuits == 0:
            return [f"`{name}`", share.get(self.on_candle, "in part"), "refused", "", "", self.said_alone()]
        gets += "" if self.circuits == self.graphs else "; refused in part"
        off = f"{100 * self.difference:.1g} %" if self.difference else "equal"
        return [f"`{name}`", share.get(self.on_candle, "in part"), gets, off, f"{np.median(self.rows):.0f}", self.said_alone()]

    def said_alone(self) -> str:
        found = self.alone.most_common()
        return found[0][0] if len(found) == 1 else ", ".join(f"{what} in {number}" for what, number in found)


def run(usage: str) -> None:
    parser = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--nova", type=Path)
    options = parser.parse_args()
    nova = (options.nova or program(STAMPS / "fuzz")).resolve()
    use_cores(1)
    ezkl = Ezkl(python())
    rows = []
    with tempfile.TemporaryDirectory(prefix="nova-operators-") as work:
        for name in (name for name in sorted(OPERATORS) if re.search(options.only, name)):
            found = Found()
            for case in cases_of(name, options.cases):
                look(found, name, case, Bare(Path(work) / "graph", nova, python()), ezkl)
            rows.append(found.as_row(name))
            say(" | ".join(rows[-1]))
    ezkl.close()
    write(rows) if options.write else print(markdown(rows))


def cases_of(name: str, most: int) -> list[Case]:
    """Graphs of this operator alone, with what makes its inputs."""
    def found():
        for number in (number for number in count() if leads(SEED, number)[0] == name):
            try:
                yield case_of(SEED, number, True)
            except Unsuitable:
                yield None

    return list(islice((case for case in islice(found(), MOST_TRIED) if case is not None), most))


def look(found: Found, name: str, case: Case, project: Bare, ezkl: Ezkl) -> None:
    found.graphs += 1
    project.write(case.model, case.sample, case.probes)
    run = project.setup(lookup_margin=1.0)
    found.on_candle += run.code == 0 or reason_of(run.complaint) != "not run by candle"
    if run.code == 0:
        found.circuits += 1
        found.rewritten += re.findall(rf"^  {name} \(node [^)]*\): ([^:\n]*)", run.out, re.MULTILINE)
        found.rows.append(project.settings()["num_rows"] / max(1, sum(data[0].size for data in case.reference)))
        answers = [project.predict(row) for row in range(len(case.kinds))]
        shares = [difference(case, row, answer["circuit"]) for row, answer in enumerate(answers) if not isinstance(answer, Run)]
        found.difference = max([found.difference, *shares])
    found.alone[by_itself(case, project, ezkl)] += 1


def difference(case: Case, row: int, values: list[list[float]]) -> float:
    """The largest of all outputs, as a share of the output's range on the sample."""
    shares = [0.0]
    for reference, expected, given in zip(case.reference, case.expected, values):
        low, high = np.quantile(reference.astype(np.float64), [0.01, 0.99])
        off = float(np.max(np.abs(np.asarray(given) - expected[row]), initial=0.0))
        shares.append(off / (high - low) if high > low else off)
    return max(shares)


def by_itself(case: Case, project: Bare, ezkl: Ezkl) -> str:
    """What EZKL makes of the model as it is."""
    alone = Bare(project.folder / "alone", project.nova, python())
    alone.write(case.model, {}, {})
    model, circuit, written = (alone.files / name for name in ("model.onnx", "model.ezkl", "settings.json"))
    outcome = Outcome(case.number, [], case.opset)
    try:
        ezkl.call("gen_settings", model=model, output=written, run_args=RUN_ARGS)
        ezkl.call("compile_circuit", model=model, compiled_circuit=circuit, settings_path=written)
        settings = alone.settings()
        for row in range(len(case.kinds)):
            inputs = [data[row].astype(float).ravel().tolist() for data in case.probes.values()]
            _, outputs = witness(alone, ezkl, inputs, f"row{row}")
            if all(np.isfinite(wanted[row]).all() for wanted in case.expected):
                compare(outcome, case, row, {"model": None, "circuit": outputs}, settings)
    except (Refused, Stuck) as error:
        return "stops" if "panic" in str(error) or "ended the process" in str(error) else "refuses it"
    return "wrong" if outcome.violations else "right"


def markdown(rows: list[list[str]]) -> str:
    head = ["operator", "candle", "circuit", "off by", "rows", "EZKL by itself"]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def write(rows: list[list[str]]) -> None:
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{markdown(rows)}\n{END}{after}")
