"""The part of Go's text/template, with Prometheus's functions, that labels and annotations of alerts use."""

from alerts.template.expand import AlertData, Query, Template, parse_template

__all__ = ["AlertData", "Query", "Template", "parse_template"]
