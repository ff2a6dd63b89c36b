"""A frozen program, operation by operation in Python: what a tracer can follow.

A tracer takes a program of TorchScript as one closed call. Opened, its loops are run and its `if`s decided
while it is traced. It is run as if on a GPU: there the step of our networks asks nothing of what came
(Network.seen_rows, held), so that one recording of it holds for every step; on a CPU it would not.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from streamfuse.errors import ModelError
from streamfuse.model import torchscript

Values = dict[str, Any]
"""What has been computed, by the names of the graph."""


class Opened:
    """Called as the program is. ModelError for an operation that is not known here."""

    def __init__(self, program: Any) -> None:
        self._graph = torchscript.graph_of(program)

    def __call__(
        self, video: Tensor, audio: Tensor, present: Tensor, state: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        names = [one.debugName() for one in self._graph.inputs()]
        values: Values = dict(zip(names, (None, video, audio, present, state), strict=True))
        ((logits, fresh),) = _run(self._graph, values)
        return logits, fresh


def _run(block: Any, values: Values) -> list[Any]:
    """The outputs of a block: of the whole graph, of a branch, of one turn of a loop."""
    for node in block.nodes():
        given = [values[one.debugName()] for one in node.inputs()]
        found = _results(node, given, values)
        values.update(zip((one.debugName() for one in node.outputs()), found, strict=False))
    return [values[one.debugName()] for one in block.outputs()]


def _results(node: Any, given: list[Any], values: Values) -> list[Any]:
    match node.kind():
        case "prim::Constant":
            return [_constant(node.output())]
        case "prim::If":
            then, otherwise = node.blocks()
            return _run(then if given[0] else otherwise, values)
        case "prim::Loop":
            return _loop(node, given, values)
        case "prim::ListConstruct" | "prim::TupleConstruct":
            return [given if node.kind() == "prim::ListConstruct" else tuple(given)]
        case "prim::ListUnpack" | "prim::TupleUnpack":
            return list(given[0])
        case "prim::RaiseException":
            raise ModelError("a model must be expressible in ONNX", got=given[0])
    made = _operation(node)(given)
    return list(made) if node.outputsSize() > 1 else [made]


def _constant(value: Any) -> Any:
    made = value.toIValue()
    # Weights are kept as the CPU likes them; a file of another runtime wants them in order.
    return made.contiguous() if isinstance(made, Tensor) else made


def _loop(node: Any, given: list[Any], values: Values) -> list[Any]:
    (body,) = node.blocks()
    turns, goes_on, *carried = given
    names = [one.debugName() for one in body.inputs()]
    for turn in range(int(turns)):
        if not goes_on:
            break
        values.update(zip(names, (turn, *carried), strict=True))
        goes_on, *carried = _run(body, values)
    return carried


def _operation(node: Any) -> Callable[[list[Any]], Any]:
    """What computes a node from its inputs."""
    kind: str = node.kind()
    name = kind.partition("::")[2]
    text = node.schema()
    schema = torch._C.parse_schema(text) if "(no schema)" not in text else None
    typed = [] if schema is None else [*schema.arguments, *schema.returns]
    of_tensors = any("Tensor" in str(one.type) for one in typed)
    own = (_OF_TENSORS if of_tensors else _OF_PLAIN).get(name)
    if own is not None:
        return lambda given: own(*given)
    if not of_tensors or schema is None or not kind.startswith("aten::"):
        raise ModelError("a model must be expressible in ONNX", got=f"the operation {kind}")
    return lambda given: _call(name, list(schema.arguments), given)


def _call(name: str, arguments: list[Any], given: list[Any]) -> Any:
    """The function of this name that people call, as its arguments go: the tracer knows those."""
    places = (torch, F, Tensor)
    function = next((getattr(place, name) for place in places if hasattr(place, name)), None)
    if function is None:
        raise ModelError("a model must be expressible in ONNX", got=f"the operation {name}")
    plain: list[Any] = []
    named: dict[str, Any] = {}
    for argument, value in zip(arguments, given, strict=True):
        told = _DTYPES[value] if argument.name == "dtype" and isinstance(value, int) else value
        if not argument.kwarg_only:
            plain.append(told)
        elif told is not None:
            named[argument.name] = told
    return function(*plain, **named)


def _append(items: list[Any], one: Any) -> list[Any]:
    items.append(one)
    return items


def _extend(items: list[Any], more: list[Any]) -> list[Any]:
    items.extend(more)
    return items


def _set_item(items: list[Any], at: int, one: Any) -> list[Any]:
    items[at] = one
    return items


def _slice_of(x: Tensor, dim: int, start: int | None, end: int | None, step: int) -> Tensor:
    return x[(*(slice(None),) * (dim % x.dim()), slice(start, end, step))]


def _index(x: Tensor, indices: list[Tensor | None]) -> Tensor:
    return x[tuple(slice(None) if one is None else one for one in indices)]


def _size(x: Tensor, dim: int | None = None) -> Any:
    return list(x.size()) if dim is None else x.size(dim)


def _to(x: Tensor, kind: Any, *_: Any) -> Tensor:
    return x.to(_DTYPES[kind] if isinstance(kind, int) else kind)


_OF_PLAIN: Mapping[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "neg", "pow")},
    **{name: getattr(operator, name) for name in ("eq", "ne", "lt", "gt", "le", "ge")},
    "div": operator.truediv,
    "remainder": operator.mod,
    "__not__": operator.not_,
    "__is__": operator.is_,
    "__isnot__": operator.is_not,
    "__contains__": operator.contains,
    "__getitem__": lambda items, at: items[at],
    "_set_item": _set_item,
    "append": _append,
    "extend": _extend,
    "slice": lambda items, start, end, step: items[start:end:step],
    "len": len,
    "list": list,
    "format": str.format,
    "max": max,
    "min": lambda *given: min(*given),
    "TupleIndex": lambda items, at: items[at],
    "unchecked_cast": lambda one: one,
    "Uninitialized": lambda: None,
}
"""Of numbers and lists."""

_OF_TENSORS: Mapping[str, Callable[..., Any]] = {
    "is_cuda": lambda _: True,
    "device": lambda x: x.device,
    "dtype": lambda x: x.dtype,
    "dim": lambda x: x.dim(),
    "size": _size,
    "slice": _slice_of,
    "index": _index,
    "to": _to,
    "Bool": bool,
    "Int": int,
    "__is__": operator.is_,
    "__isnot__": operator.is_not,
}
"""Of tensors, where the name or the arguments are others in Python."""

_DTYPES = {
    3: torch.int32,
    4: torch.int64,
    5: torch.float16,
    6: torch.float32,
    7: torch.float64,
    11: torch.bool,
}
"""TorchScript has their numbers."""
