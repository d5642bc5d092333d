"""Engine-neutral signals: what panels, rules and plans ask for, and the PromQL that asks each engine for it."""

from collector.signals.dialect import Candidate, Dialect
from collector.signals.document import Node, parse_document
from collector.signals.errors import DocumentError, SignalAbsent, SignalError, UnknownSignal
from collector.signals.library import load_dialects, names_known, series_known
from collector.signals.reading import read_dialect
from collector.signals.signals import SIGNALS, Signal
from collector.signals.status import NotExposed, Present, Status, SwitchedOff
from collector.signals.vocabulary import Vocabulary, detect

__all__ = [
    "SIGNALS",
    "Candidate",
    "Dialect",
    "DocumentError",
    "Node",
    "NotExposed",
    "Present",
    "Signal",
    "SignalAbsent",
    "SignalError",
    "Status",
    "SwitchedOff",
    "UnknownSignal",
    "Vocabulary",
    "detect",
    "load_dialects",
    "names_known",
    "parse_document",
    "read_dialect",
    "series_known",
]
