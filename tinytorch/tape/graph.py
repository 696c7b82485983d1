"""The nodes between tensors, which a walk over the graph needs to know beforehand."""

from __future__ import annotations

import operator
from collections.abc import Iterable

from tinytorch.tape.variable import Node, Place, Variable

FREED = (
    "backward: this part of the graph was freed by an earlier backward; call that backward with retain_graph=True, or "
    "compute the output again"
)


def reachable(starts: Iterable[Place]) -> list[Node]:
    """The nodes that the starts were computed from, and those among the starts, oldest first."""
    found: set[Node] = set()
    stack = [place for place in starts if type(place) is Node]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack += [source for source in node.inputs if type(source) is Node]
    return sorted(found, key=operator.attrgetter("order"), reverse=True)


def leading_to(asked: set[Place], starts: Iterable[Place]) -> set[Node]:
    """The nodes that a way from a start back to a place that was asked for goes through."""
    needed, through = set(asked), set()
    oldest = max((place.order if type(place) is Node else 1 for place in asked), default=1)
    for node in reachable(starts):
        if node.rules is None and node.order < oldest:  # freed: its inputs are no longer known
            raise RuntimeError(FREED)
        if not needed.isdisjoint(source for source in node.inputs if isinstance(source, Node | Variable)):
            needed.add(node)
            through.add(node)
    return through
