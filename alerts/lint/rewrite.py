"""Expressions with one part replaced: how a mended expression is made."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

from collector.promql import Expr, format


def mended(expr: Expr, old: Expr, new: Expr) -> str:
    """The text of ``expr`` with every ``old`` replaced by ``new``."""
    return format(_replaced(expr, old, new))


def _replaced(node: Any, old: Expr, new: Expr) -> Any:
    if node == old:
        return new
    if isinstance(node, tuple):
        return tuple(_replaced(each, old, new) for each in node)
    if not is_dataclass(node) or isinstance(node, type):
        return node
    changed = {
        field.name: after
        for field in fields(node)
        if field.init
        and not field.name.startswith("_")
        and (after := _replaced(before := getattr(node, field.name), old, new)) is not before
        and after != before
    }
    return replace(node, **changed) if changed else node
