"""A numba type of one vector register: 64 bytes of float32 (16 lanes) or of float64 (8).

    a = load(array, at)             # array: 1-D, C-contiguous; elements at .. at + lanes
    store(array, at, a * a + 2.0 * a)

Arithmetic between vectors and with scalars, so that the same scalar code serves one CUDA thread and
one register full of frames. Written out because loops over lanes are vectorised with run-time checks
of overlap before each of them, which cost more than the loops (measured: 2-6 times).
Nothing is checked: the caller keeps `at` inside the array.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

REGISTER_BYTES = 64
_CONTRACT = ("contract",)


class Lanes(types.Type):
    """Vector of `dtype` filling one register."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.count = REGISTER_BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"Lanes({dtype}x{self.count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        element = manager.lookup(lanes.dtype).get_value_type()
        super().__init__(manager, lanes, ir.VectorType(element, lanes.count))


def _address(context: Any, builder: Any, array_type: Any, array: Any, at: Any, lanes: Lanes) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    vector = context.get_value_type(lanes)
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


def _is_row(array: Any) -> bool:
    return isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C"


@intrinsic
def load(_typing: Any, array: Any, at: Any) -> Any:  # noqa: ARG001
    if not _is_row(array):
        return None
    lanes = Lanes(array.dtype)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _address(context, builder, sig.args[0], args[0], args[1], lanes)
        value = builder.load(pointer)
        value.align = array.dtype.bitwidth // 8
        return value

    return lanes(array, types.intp), codegen


@intrinsic
def store(_typing: Any, array: Any, at: Any, value: Any) -> Any:  # noqa: ARG001
    if not _is_row(array) or not isinstance(value, Lanes) or value.dtype != array.dtype:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _address(context, builder, sig.args[0], args[0], args[1], value)
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, types.intp, value), codegen


@intrinsic
def store_float32(_typing: Any, array: Any, at: Any, value: Any) -> Any:  # noqa: ARG001
    """Store 8 lanes of float64 as 8 elements of a float32 array."""
    if not _is_row(array) or array.dtype != types.float32:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        narrow = ir.VectorType(ir.FloatType(), value.count)
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), narrow.as_pointer())
        builder.store(builder.fptrunc(args[2], narrow), pointer, align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, value), codegen


@intrinsic
def load_bytes(_typing: Any, array: Any, at: Any) -> Any:  # noqa: ARG001
    """Load 16 uint8 as float32 lanes."""
    if not _is_row(array) or array.dtype != types.uint8:
        return None
    lanes = Lanes(types.float32)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        narrow = ir.VectorType(ir.IntType(8), lanes.count)
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        value = builder.load(builder.bitcast(builder.gep(data, [args[1]]), narrow.as_pointer()))
        value.align = 1
        return builder.uitofp(value, context.get_value_type(lanes))

    return lanes(array, types.intp), codegen


@intrinsic
def transpose(_typing: Any, source: Any, at: Any, pitch: Any, target: Any, to: Any, width: Any) -> Any:  # noqa: ARG001
    """Write the 16 x 16 float32 block at source[at + row * pitch] turned to target[to + column * width]."""
    if not (_is_row(source) and _is_row(target) and source.dtype == target.dtype == types.float32):
        return None
    count = REGISTER_BYTES // 4

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.FloatType(), count)
        index = ir.VectorType(cgutils.int32_t, count)
        halves = [[start + k // 2 + count * (k % 2) for k in range(count)] for start in (0, count // 2)]
        masks = [ir.Constant(index, mask) for mask in halves]

        def place(array: Any, kind: Any, start: Any, step: Any, row: int) -> Any:
            data = context.make_array(kind)(context, builder, array).data
            offset = builder.add(start, builder.mul(step, ir.Constant(step.type, row)))
            return builder.bitcast(builder.gep(data, [offset]), vector.as_pointer())

        rows = []
        for row in range(count):
            rows.append(builder.load(place(args[0], sig.args[0], args[1], args[2], row)))
            rows[-1].align = 4
        for _ in range(count.bit_length() - 1):  # each round interleaves row i with row i + 8
            pairs = [(rows[i], rows[i + count // 2]) for i in range(count // 2)]
            rows = [builder.shuffle_vector(a, b, mask) for a, b in pairs for mask in masks]
        for row, value in enumerate(rows):
            builder.store(value, place(args[3], sig.args[3], args[4], args[5], row), align=4)
        return context.get_dummy_value()

    at_types = (source, types.intp, types.intp, target, types.intp, types.intp)
    return types.none(*at_types), codegen


def _splat(context: Any, builder: Any, value: Any, value_type: Any, lanes: Lanes) -> Any:
    """`value` in every lane, if it is not a vector already."""
    if isinstance(value_type, Lanes):
        return value
    scalar = context.cast(builder, value, value_type, lanes.dtype)
    vector = ir.VectorType(scalar.type, lanes.count)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(cgutils.int32_t, 0))
    return builder.shuffle_vector(
        first, first, ir.Constant(ir.VectorType(cgutils.int32_t, lanes.count), None)
    )


def _define(operation: Any, instruction: str) -> None:
    @infer_global(operation)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, _keywords: Any) -> Any:
            found = [a for a in args if isinstance(a, Lanes)]
            if len(args) != 2 or not found or any(a != found[0] for a in found):
                return None
            if all(isinstance(a, Lanes | types.Float) for a in args):
                return signature(found[0], *args)
            return None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        left, right = (
            _splat(context, builder, value, kind, sig.return_type)
            for value, kind in zip(args, sig.args, strict=True)
        )
        return getattr(builder, instruction)(left, right, flags=_CONTRACT)

    for pair in ((Lanes, Lanes), (Lanes, types.Float), (types.Float, Lanes)):
        lower_builtin(operation, *pair)(lower)


for _operation, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _define(_operation, _instruction)
