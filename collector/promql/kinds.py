"""The four kinds of value that an expression has."""

from typing import Literal

Kind = Literal["scalar", "vector", "matrix", "string"]

DOCUMENTED: dict[Kind, str] = {
    "scalar": "scalar",
    "string": "string",
    "vector": "instant vector",
    "matrix": "range vector",
}
"""As Prometheus's messages name them."""
