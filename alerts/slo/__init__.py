"""Service level objectives (OpenSLO, Sloth) to multi-window, multi-burn-rate Prometheus rules."""

from alerts.slo.objective import AlertSpec, Objective, Reading
from alerts.slo.read import read_slo_file
from alerts.slo.rules import rule_file

__all__ = ["AlertSpec", "Objective", "Reading", "read_slo_file", "rule_file"]
