"""Arithmetic and comparison of numbers, element by element."""

from collections.abc import Callable

import numpy as np

from collector.model.series import BoolArray, Float64Array

ARITHMETIC: dict[str, Callable[[Float64Array, Float64Array], Float64Array]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": np.power,
    "atan2": np.arctan2,
}

COMPARISON: dict[str, Callable[[Float64Array, Float64Array], BoolArray]] = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}

SET = frozenset({"and", "or", "unless"})


def combine(
    op: str, left: Float64Array, right: Float64Array, return_bool: bool
) -> tuple[Float64Array, BoolArray | None]:
    """``left op right`` and, for a comparison that filters, where it holds; the value is then the left one."""
    if op in ARITHMETIC:
        return ARITHMETIC[op](left, right), None
    holds = COMPARISON[op](left, right)
    if return_bool:
        return holds.astype(np.float64), None
    return np.broadcast_to(left, holds.shape), holds
