"""What is valid in a rule file and yet commonly wrong: its place, why, and the mended expression where there is one."""

from alerts.lint.finding import Finding
from alerts.lint.lint import lint

__all__ = ["Finding", "lint"]
