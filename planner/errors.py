"""What can go wrong in the planner.

PlannerError
├── TraceError      a file cannot be read as a trace, or a row of it cannot under ``strict``
├── WorkloadError   a trace cannot be shaped as asked
├── ReplayError     a server cannot be played against
├── RunError        a result file is not a run, or two runs cannot be compared
├── SloError        a promise cannot be read
├── ModelError      a step-time model cannot be fitted, read or used
├── CapacityError   a capacity question has no answer as asked
├── CostError       a price table cannot be read
├── ReportError     a report cannot be read, or two cannot be compared
└── CatalogError    a catalogue of GPUs, models and prices cannot be read, or lacks an entry
"""


class PlannerError(Exception):
    """Root of all errors that the planner raises on purpose; the message is one line for a person."""


class TraceError(PlannerError):
    """A file cannot be read as a trace; the message names file, line, value and what is allowed."""


class WorkloadError(PlannerError):
    """A trace cannot be shaped as asked; the message names the option, its value and what is allowed."""


class ReplayError(PlannerError):
    """A server cannot be played against; the message names its address and why."""


class RunError(PlannerError):
    """A result file is not a run of this schema, or two runs have nothing to compare."""


class SloError(PlannerError):
    """A promise cannot be read; the message names file, field and value."""


class ModelError(PlannerError):
    """A step-time model cannot be fitted, read or used; the message says what is missing."""


class CapacityError(PlannerError):
    """A capacity question has no answer as asked; the message says why."""


class CostError(PlannerError):
    """A price table cannot be read; the message names file, plan, field and value."""


class CatalogError(PlannerError):
    """A catalogue cannot be read or lacks an entry; the message names file, field and what there is."""


class ReportError(PlannerError):
    """A report cannot be read, or two answer different kinds of question; the message names the files."""
