"""Repeatable measurements, against peers where there are any; `python -m benchmarks` runs them all."""
