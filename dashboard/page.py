"""A page as a value; importing one does nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dash import Dash

from dashboard.site import Site


@dataclass(frozen=True, slots=True)
class Page:
    """``path`` below the prefix, ``key`` the letter that follows g on the keyboard, ``icon`` of the navigation.

    ``layout()`` is the page before its data; ``wire(app, site)`` registers its one batched callback.
    """

    path: str
    title: str
    icon: str
    key: str
    layout: Callable[[], Any]
    wire: Callable[[Dash, Site], None]
