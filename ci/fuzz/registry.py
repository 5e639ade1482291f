"""The operators that are tried, each with what adds a node of it to a graph."""

from collections.abc import Callable

from onnx import defs

from fuzz.graph import Graph

Adder = Callable[[Graph], None]

OPERATORS: dict[str, Adder] = {}


def operator(name: str) -> Callable[[Adder], Adder]:
    """Registers a function that adds a node of the operator, with inputs that suit it."""
    def register(adder: Adder) -> Adder:
        OPERATORS[name] = adder
        return adder
    return register


def each(names: str, adder: Callable[[Graph, str], object]) -> None:
    """Registers operators that are added alike."""
    for name in names.split():
        OPERATORS[name] = lambda graph, name=name: adder(graph, name)


def opsets(name: str, versions: range) -> list[int]:
    """The opsets in which the operator is there."""
    found = []
    for version in versions:
        try:
            schema = defs.get_schema(name, version, "")
        except defs.SchemaError:
            continue
        found += [] if schema.deprecated else [version]
    return found
