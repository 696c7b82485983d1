"""Walking nested containers, to move their contents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_nodes: list[tuple[Any, ...]] = []  # classes that hold arrays: (class, take apart, put together)
_told: list[Callable[..., Any]] = []


def hold_arrays(cls: type, apart: Callable[[Any], Any], together: Callable[[Any, Any], Any]) -> None:
    """Tell libraries that walk trees, those that come later too, how to find the arrays in objects of a class.

    Args:
        apart: gives (arrays, all else) of an object.
        together: makes one of (all else, arrays).
    """
    _nodes.append((cls, apart, together))
    for register in _told:
        register(cls, apart, together)


def tell(register: Callable[..., Any]) -> None:
    """Let a library walk into tensors: call `register(class, apart, together)` for each of their classes.

    JAX is told when its first device is used. Another library, such as optree, is told by whoever uses it:

    ```python
    tree.tell(functools.partial(optree.register_pytree_node, namespace="tinytorch"))
    ```
    """
    _told.append(register)
    for node in _nodes:
        register(*node)


def map_tree(function: Callable[[Any], Any], tree: Any) -> Any:
    """A copy of nested dicts, lists, tuples and named tuples with the function applied to everything else in them.

    Aliases are kept: of an object that stands twice, one result stands twice.

    >>> a = [1]
    >>> out = map_tree(lambda x: x + 1, {"a": a, "b": (a, 2)})
    >>> out, out["a"] is out["b"][0]
    ({'a': [2], 'b': ([2], 3)}, True)
    """
    if not callable(function):
        raise TypeError(f"map_tree: function is called with what is in the tree, and {function!r} cannot be called")
    return _walk(function, tree, {})


def _walk(function: Callable[[Any], Any], node: Any, done: dict[int, Any]) -> Any:
    if id(node) in done:
        return done[id(node)]
    out: Any
    if isinstance(node, dict):
        out = done[id(node)] = {}
        out.update((key, _walk(function, value, done)) for key, value in node.items())
    elif isinstance(node, list):
        out = done[id(node)] = []
        out.extend(_walk(function, value, done) for value in node)
    elif isinstance(node, tuple):
        values = [_walk(function, value, done) for value in node]
        out = type(node)(*values) if hasattr(node, "_fields") else tuple(values)
    else:
        out = function(node)
    done[id(node)] = out
    return out
