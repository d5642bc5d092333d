"""PromQL over any ``Querier``: parse, format, evaluate. Knows nothing of how samples are stored or scraped."""

from collector.promql.ast import Expr, VectorSelector, selectors
from collector.promql.engine import Effort, Engine, Result
from collector.promql.limits import Limits
from collector.promql.parser import parse
from collector.promql.printer import format

__all__ = ["Effort", "Engine", "Expr", "Limits", "Result", "VectorSelector", "format", "parse", "selectors"]
