"""Icons as masks over the text colour: local SVGs, named in ``assets/20-app.css``, silent for assistive technology."""

from typing import Any

from dash import html

Node = Any
"""A Dash component, a text, a list of either, or None: the library is not typed."""


def hyphened(**attributes: str) -> dict[str, Any]:
    """Attributes whose names hold hyphens: ``aria_label="x"`` for ``aria-label``."""
    return {name.replace("_", "-"): value for name, value in attributes.items()}


def icon(name: str, size: int = 16) -> Node:
    """Icon ``name`` of ``assets/icons``, ``size`` pixels square."""
    style = {"width": size, "height": size}
    return html.Span(className=f"ic ic-{name}", style=style, **hyphened(aria_hidden="true"))
