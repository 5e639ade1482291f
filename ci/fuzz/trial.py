"""What becomes of one graph: set up or refused, answered or refused row by row, proven or a violation."""

import re
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from circuits import TOO_LARGE, Bare, Ezkl, Refused, Run, Stuck, prove, tolerance, witness
from fuzz.generator import Case

# Why a graph or row is refused, by words of the message. The first that fits.
REASONS = [
    ("no form in a circuit", r"EZKL cannot compute what the model says"),
    ("not run by candle", r"cannot run|not supported|does not run on candle|is not known"),
    ("no batch of one", r"has no fixed size"),
    ("no input", r"takes no input"),
    ("time", r"took longer than|has not ended after|did not return within"),
    ("precision", r"the circuit cannot hold|is more than the limit|too coarse"),
    ("unlike candle", r"candle says"),
    ("unprovable", r"could not be proven"),
    ("range", r"reaches|out of range|too large"),
    ("nothing to hash", r"EZKL has hashed no parameters"),
    ("refused by EZKL", r"EZKL"),
]

# What nova exits with where it says no; a panic has 101, a signal a negative number.
REFUSALS = (1, 2)


@dataclass
class Outcome:
    """Of one graph. Times are seconds."""

    number: int
    operators: list[str]
    opset: int
    status: str = "proven"
    reason: str = ""
    is_explained: bool = True
    text: str = ""
    # Each begins with what it is: wrong, unprovable or crash.
    violations: list[str] = field(default_factory=list)
    rows_answered: int = 0
    rows_refused: int = 0
    times: dict[str, float] = field(default_factory=dict)
    logrows: int = 0

    def as_dict(self) -> dict:
        return asdict(self)


def reason_of(text: str) -> str:
    return next((name for name, words in REASONS if re.search(words, text)), "other")


def is_explained(text: str, case: Case, reason: str) -> bool:
    """A refusal names an operator, node, column, output or setting; one for precision names rows or the answer."""
    if reason in ("no input", "nothing to hash"):
        return True
    graph = case.model.graph
    names = case.operators | {node.name for node in graph.node} | {output.name for output in graph.output}
    names |= {f"{name}_{at}" for name, data in case.sample.items() for at in range(int(np.prod(data.shape[1:])))}
    if any(name and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in names):
        return True
    if re.search(r"""(input|column) ["`]""", text):
        return True
    return reason in ("precision", "time") and bool(re.search(r"row \d+:|took longer than|post_process makes of the output", text))


def tried(case: Case, project: Bare, ezkl: Ezkl) -> Outcome:
    """Takes the graph all the way."""
    outcome = Outcome(case.number, sorted(case.operators), case.opset)
    project.write(case.model, case.sample, case.probes)
    options = dict(case.visibilities) | ({"lookup-margin": case.lookup_margin} if case.lookup_margin else {})
    run = project.setup(**options)
    outcome.times["setup"] = run.seconds
    if run.ended == TOO_LARGE:
        outcome.status, outcome.reason = "none", TOO_LARGE
        return outcome
    if run.code != 0:
        refuse(outcome, run, case)
        if outcome.reason not in ("not run by candle", "no batch of one"):
            check_float_side(outcome, project, case)
        return outcome
    settings = project.settings()
    outcome.logrows = settings["run_args"]["logrows"]
    to_prove = None
    for row, kind in enumerate(case.kinds):
        started = time.monotonic()
        answer = project.predict(row)
        outcome.times["predict"] = outcome.times.get("predict", 0) + time.monotonic() - started
        if isinstance(answer, Run):
            outcome.rows_refused += 1
            check_refusal(outcome, answer, case, kind)
            continue
        outcome.rows_answered += 1
        compare(outcome, case, row, answer, settings)
        witnessed = check_witness(outcome, project, ezkl, answer, f"row {row} ({kind})")
        to_prove = witnessed or to_prove
    if to_prove is None:
        outcome.status, outcome.reason = "refused", "no row answered"
    else:
        started = time.monotonic()
        check_proof(outcome, project, ezkl, to_prove)
        outcome.times["prove"] = time.monotonic() - started
    return outcome


def refuse(outcome: Outcome, run: Run, case: Case) -> None:
    outcome.status, outcome.text = "refused", run.complaint
    outcome.reason = reason_of(run.complaint)
    outcome.is_explained = is_explained(run.complaint, case, outcome.reason)
    if run.code not in REFUSALS and not run.ended:
        outcome.violations.append(f"crash: nova setup ended with code {run.code}: {run.complaint[-300:]}")


def check_refusal(outcome: Outcome, run: Run, case: Case, kind: str) -> None:
    """A row may be refused; a panic or a message without a reason may not be how."""
    reason = reason_of(run.complaint)
    is_refusal = run.code in REFUSALS or run.ended
    if not is_refusal or reason == "other" and not is_explained(run.complaint, case, reason):
        outcome.is_explained = False
        outcome.text += f"\nrow {kind}: {run.complaint}"


def check_float_side(outcome: Outcome, project: Bare, case: Case) -> None:
    """Without a circuit `predict` shows what candle says."""
    for row, kind in enumerate(case.kinds[:2]):
        answer = project.predict(row)
        if not isinstance(answer, Run):
            compare_values(outcome, case, row, answer["model"], f"candle, row {row} ({kind})", lambda output, value: 0.0)


def compare(outcome: Outcome, case: Case, row: int, answer: dict, settings: dict) -> None:
    has_floats = any(data.dtype.kind == "f" for data in case.sample.values())
    where = f"row {row} ({case.kinds[row]})"
    if answer["model"] is not None:
        compare_values(outcome, case, row, answer["model"], f"candle, {where}", lambda output, value: 0.0)

    def allowed(output: int, value: float) -> float:
        return tolerance(case.reference[output], settings, output, has_floats, value)

    compare_values(outcome, case, row, answer["circuit"], f"circuit, {where}", allowed)


def compare_values(outcome: Outcome, case: Case, row: int, values, what: str, allowed) -> None:
    """The first number that is too far from ONNX Runtime's is a violation. Single precision in another order of additions may differ."""
    names = [output.name for output in case.model.graph.output]
    for output, (name, wanted, given) in enumerate(zip(names, case.expected, values)):
        expected = wanted[row]
        if not np.isfinite(expected).all():
            # ONNX Runtime refuses the row, or divides by zero where ONNX says what to add to it.
            continue
        if len(expected) != len(given):
            outcome.violations.append(f"wrong: {what}: {name} has {len(given)} numbers, ONNX Runtime {len(expected)}")
            return
        is_whole = case.reference[output].dtype.kind in "iub"
        for place, (right, found) in enumerate(zip(expected, given)):
            rounding = 0.0 if is_whole else 1e-4 * max(1.0, abs(right))
            if not abs(found - right) <= allowed(output, right) + rounding:
                outcome.violations.append(
                    f"wrong: {what}: {name}[{place}] is {found}, ONNX Runtime says {right}: {abs(found - right):.3e} is more than "
                    f"{allowed(output, right) + rounding:.3e}")
                return


def check_witness(outcome: Outcome, project: Bare, ezkl: Ezkl, answer: dict, where: str) -> Path | None:
    """EZKL's own witness of an answered row holds the same outputs and passes `mock`."""
    try:
        file, outputs = witness(project, ezkl, answer["input"], where.split(" (")[0].replace(" ", ""))
        if outputs != answer["circuit"]:
            outcome.violations.append(f"wrong: {where}: the answer {answer['circuit']} is not the witness's {outputs}")
        ezkl.call("mock", witness=file, model=project.files / "model.ezkl")
        return file
    except Refused as error:
        outcome.violations.append(f"unprovable: {where}: answered, and EZKL refuses it: {str(error)[:300]}")
    except Stuck as error:
        outcome.violations.append(f"unprovable: {where}: {error}")
    return None


def check_proof(outcome: Outcome, project: Bare, ezkl: Ezkl, witnessed: Path) -> None:
    for _ in range(3):
        try:
            if not prove(project, ezkl, witnessed):
                outcome.violations.append(f"unprovable: {witnessed.name}: the proof does not verify")
            return
        except Refused as error:
            outcome.violations.append(f"unprovable: {witnessed.name}: no proof: {str(error)[:300]}")
            return
        except Stuck as error:
            # EZKL's own lock: a new process begins again.
            stuck = error
    outcome.violations.append(f"unprovable: {witnessed.name}: {stuck}")
