"""Unit tests of rules in promtool's format, evaluated in memory by the collector's own PromQL engine."""

from alerts.ruletest.run import Failure, run_test_file
from alerts.ruletest.source import SyntheticSource
from alerts.ruletest.testfile import TestFile, read_test_file

__all__ = ["Failure", "SyntheticSource", "TestFile", "read_test_file", "run_test_file"]
