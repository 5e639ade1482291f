"""Many graphs on all cores, and what is said of them in the end."""

import argparse
import concurrent.futures as futures
import ctypes
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from circuits import CORES, TOO_LARGE, Bare, Ezkl, program, python, use_cores
from fuzz.generator import case_of
from fuzz.graph import Unsuitable
from fuzz.registry import OPERATORS
from fuzz.trial import Outcome, tried
from project import say, table

CACHE = Path.home() / ".cache/nova-template/fuzz"

STAMPS = Path(os.environ.get("NOVA_STAMPS_DIR", CACHE.parent / "stamps"))
PR_SET_PDEATHSIG = 1
# Of a lane: a process that has a core to itself.
LANE: dict = {}


def start_lane(numbers, nova: Path, keep: Path, seed: int, is_small: bool, logrows: int) -> None:
    """Each lane has a core to itself, and what it starts; it ends with the process that it works for."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    use_cores(1, numbers.get())
    interpreter = python()
    LANE.update(nova=nova, keep=keep, seed=seed, is_small=is_small, logrows=logrows, python=interpreter, ezkl=Ezkl(interpreter),
                work=Path(tempfile.mkdtemp(prefix="nova-fuzz-")))


def try_graph(number: int) -> dict:
    """Runs in a lane."""
    started = time.monotonic()
    folder = LANE["work"] / f"graph-{number}"
    try:
        case = case_of(LANE["seed"], number, LANE["is_small"])
    except Unsuitable as error:
        return Outcome(number, [], 0, status="none", text=str(error)).as_dict()
    made = time.monotonic()
    outcome = tried(case, Bare(folder, LANE["nova"], LANE["python"], most_logrows=LANE["logrows"]), LANE["ezkl"])
    outcome.times |= {"make": made - started, "all": time.monotonic() - started}
    kept(folder, LANE["keep"] / f"graph-{number}", outcome)
    shutil.rmtree(folder, ignore_errors=True)
    return outcome.as_dict()


def kept(folder: Path, target: Path, outcome: Outcome) -> None:
    """What fails stays, without what is large and can be made again."""
    shutil.rmtree(target, ignore_errors=True)
    if outcome.violations or not outcome.is_explained:
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("model_pk.pk", "kzg.srs"))


def run(usage: str) -> None:
    parser = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--graphs", type=int, default=10**6)
    parser.add_argument("--first", type=int, default=0, help="the number of the first graph")
    parser.add_argument("--only", type=int)
    parser.add_argument("--lanes", type=int, help="graphs at once: as many as cores, if not given")
    parser.add_argument("--small", action="store_true", help="one operator a graph")
    parser.add_argument("--logrows", type=int, default=14, help="larger circuits are left out: they take minutes, and show nothing new")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--resume", action="store_true", help="results.jsonl counts, and what it has is not tried again unless it failed")
    parser.add_argument("--nova", type=Path)
    options = parser.parse_args()
    nova = (options.nova or program(STAMPS / "fuzz")).resolve()
    keep = (options.keep or CACHE / str(options.seed)).resolve()
    keep.mkdir(parents=True, exist_ok=True)
    wanted = [options.only] if options.only is not None else range(options.first, options.first + options.graphs)
    results = keep / "results.jsonl"
    outcomes = earlier(results, wanted) if options.resume else {}
    say(f"seed {options.seed}, {options.seconds:.0f} s, {len(outcomes)} tried before; what fails is kept in {keep}")
    numbers = (number for number in wanted if number not in outcomes)
    with results.open("a") as written:
        for outcome in all_of(numbers, options.seconds, options.lanes, (nova, keep, options.seed, options.small, options.logrows)):
            outcomes[outcome["number"]] = outcome
            written.write(json.dumps(outcome) + "\n")
            written.flush()
            tell(outcome, options.seed)
    sys.exit(report(list(outcomes.values()), options.only is not None))


def earlier(results: Path, wanted) -> dict[int, dict]:
    """By number, what an earlier run wrote of graphs that passed or were refused with a reason; the last line of a graph counts."""
    lines = results.read_text().splitlines() if results.exists() else []
    found = {outcome["number"]: outcome for outcome in map(json.loads, lines)}
    return {number: outcome for number, outcome in found.items()
            if number in wanted and not outcome["violations"] and (outcome["status"] == "none" or outcome["is_explained"])}


def all_of(numbers, seconds: float, lanes: int | None, given: tuple):
    """The outcomes of the graphs that are begun in so many seconds, as they come."""
    context = multiprocessing.get_context("spawn")
    lane_numbers = context.Queue()
    lanes = lanes or len(CORES)
    for lane in range(lanes):
        lane_numbers.put(lane)
    deadline = time.monotonic() + seconds
    with futures.ProcessPoolExecutor(lanes, context, start_lane, (lane_numbers, *given)) as pool:
        running: set = set()
        while True:
            while len(running) < lanes and time.monotonic() < deadline and (number := next(numbers, None)) is not None:
                running.add(pool.submit(try_graph, number))
            if not running:
                return
            done, running = futures.wait(running, return_when=futures.FIRST_COMPLETED)
            for one in done:
                yield one.result()


def tell(outcome: dict, seed: int) -> None:
    """What is wrong, as soon as it is known."""
    again = f"--seed {seed} --only {outcome['number']}"
    for violation in outcome["violations"]:
        print(f"VIOLATION {again} ({' '.join(outcome['operators'])}): {violation}", file=sys.stderr, flush=True)
    if outcome["status"] != "none" and not outcome["is_explained"]:
        print(f"UNEXPLAINED {again} ({' '.join(outcome['operators'])}): {outcome['text'][-500:]}", file=sys.stderr, flush=True)


def report(outcomes: list[dict], is_one: bool) -> int:
    """Prints the table and the last line; the exit code."""
    graphs = [outcome for outcome in outcomes if outcome["status"] != "none"]
    by_operator: dict[str, Counter] = defaultdict(Counter)
    for outcome in graphs:
        for operator in outcome["operators"]:
            by_operator[operator].update(["graphs", outcome["status"]])
    rows = [["operator", "graphs", "proven", "refused"]]
    for operator in sorted(by_operator if is_one else OPERATORS):
        rows.append([operator, *(str(by_operator[operator][column]) for column in rows[0][1:])])
    print(table(rows))
    times = Counter()
    for outcome in graphs:
        times.update(outcome["times"])
    print(f"seconds a graph: {', '.join(f'{name} {total / max(1, len(graphs)):.2f}' for name, total in times.items())}")
    answered, refused = (sum(outcome[name] for outcome in graphs) for name in ("rows_answered", "rows_refused"))
    large = sum(outcome["reason"] == TOO_LARGE for outcome in outcomes)
    print(f"left out, because their circuits are large (--logrows): {large}")
    print(f"rows beside the sample: {answered} answered, {refused} refused")
    if is_one:
        print(json.dumps(outcomes, indent=1))
    proven = sum(outcome["status"] == "proven" for outcome in graphs)
    reasons = Counter(outcome["reason"] for outcome in graphs if outcome["status"] == "refused")
    unexplained = sum(not outcome["is_explained"] for outcome in graphs)
    violations = sum(bool(outcome["violations"]) for outcome in graphs)
    by_reason = ", ".join(f"{name} {count}" for name, count in reasons.most_common())
    print(f"graphs {len(graphs)} proven {proven} refused {len(graphs) - proven} (by reason: {by_reason or 'none'}) "
          f"unexplained {unexplained} violations {violations}")
    return 1 if unexplained or violations else 0
