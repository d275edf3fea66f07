"""Comparisons of 64 values at once: vector instructions that numba cannot express, generated as LLVM IR for any processor.

A tile is an array of float32, or of the bits of bfloat16 as uint16, which are converted to float32 by a shift.

The same selection in plain numba takes 1.4 to 2.5 times as long at 8192 rows and k = 48 (`python -m benchmarks lanes`).
"""

from collections.abc import Callable
from typing import Any

import numba as nb
from llvmlite import ir
from numba.extending import intrinsic

#: Number of values compared at once, the bits of a mask.
LANES = 64

_WORD = ir.IntType(32)


def _instruction(function: Callable[..., Any]) -> Any:
    """Declare a function that kernels can call; given its argument types, it returns its signature and its generator."""
    return intrinsic(function)


def _load(builder: Any, dtype: Any, address: Any, lanes: int = LANES) -> Any:
    """Load values from an address on, aligned or not, as float32."""
    halves = dtype == nb.uint16
    stored = ir.VectorType(ir.IntType(16) if halves else ir.FloatType(), lanes)
    values = builder.load(builder.inttoptr(address, stored.as_pointer()))
    values.align = 1
    if not halves:
        return values
    words = ir.VectorType(_WORD, lanes)
    high = builder.shl(builder.zext(values, words), ir.Constant(words, [16] * lanes))
    return builder.bitcast(high, ir.VectorType(ir.FloatType(), lanes))


def _spread(builder: Any, value: Any) -> Any:
    """Copy one float32 to all lanes."""
    empty = ir.Constant(ir.VectorType(ir.FloatType(), LANES), ir.Undefined)
    first = builder.insert_element(empty, value, _WORD(0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_WORD, LANES), [0] * LANES))


def _similarities(builder: Any, tile: Any, address: Any, shift: Any, shifts: Any) -> Any:
    return builder.fadd(
        builder.fadd(_load(builder, tile.dtype, address), _spread(builder, shift)),
        _load(builder, nb.float32, shifts),
    )


@_instruction
def mask_reaching(_context: Any, tile: Any, _address: Any, _shift: Any, _shifts: Any, _limit: Any) -> Any:
    """Return a mask of the similarities that are not below a limit; the first is the lowest bit.

    A similarity is a value of the tile, from an address on, plus the row's shift, plus the column's shift, float32 from
    another address on.
    """

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _, address, shift, shifts, limit = arguments
        values = _similarities(builder, tile, address, shift, shifts)
        return builder.bitcast(builder.fcmp_ordered(">=", values, _spread(builder, limit)), ir.IntType(LANES))

    return nb.uint64(tile, nb.uintp, nb.float32, nb.uintp, nb.float32), generate


@_instruction
def mask_reaching_each(_context: Any, tile: Any, _address: Any, _shift: Any, _shifts: Any, _limits: Any) -> Any:
    """Return the mask of `mask_reaching` with a separate limit for each column, float32 from an address on."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _, address, shift, shifts, limits = arguments
        values = _similarities(builder, tile, address, shift, shifts)
        bounds = _load(builder, nb.float32, limits)
        return builder.bitcast(builder.fcmp_ordered(">=", values, bounds), ir.IntType(LANES))

    return nb.uint64(tile, nb.uintp, nb.float32, nb.uintp, nb.uintp), generate


@_instruction
def read_value(_context: Any, tile: Any, _address: Any) -> Any:
    """Return one value of a tile as float32."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.extract_element(_load(builder, tile.dtype, arguments[1], 1), _WORD(0))

    return nb.float32(tile, nb.uintp), generate


@_instruction
def lowest_bit(_context: Any, _mask: Any) -> Any:
    """Return the number of the lowest set bit."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return nb.int64(nb.uint64), generate
