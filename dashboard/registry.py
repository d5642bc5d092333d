"""Which pages there are and how the navigation groups them: a page is a module of ``dashboard.pages`` with ``PAGE``."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from dashboard.page import Page


@dataclass(frozen=True, slots=True)
class Group:
    """Pages under one heading of the navigation."""

    title: str
    pages: tuple[Page, ...]


MODULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Now", ("overview", "latency", "throughput", "kv_cache", "gpu", "requests")),
    ("Fleet", ("fleet", "targets", "alerts", "explore")),
    ("Plan", ("capacity", "cost", "replay")),
)
"""Headings and the modules below them, in the order of the navigation."""


def load_groups() -> tuple[Group, ...]:
    """Every group with its pages."""
    return tuple(Group(title, tuple(_pages(names))) for title, names in MODULES)


def pages_of(groups: Sequence[Group]) -> tuple[Page, ...]:
    """All pages, in order."""
    return tuple(page for group in groups for page in group.pages)


def _pages(names: Sequence[str]) -> list[Page]:
    return [import_module(f"dashboard.pages.{name}").PAGE for name in names]
