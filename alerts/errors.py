"""What can go wrong with alerts.

AlertsError
├── RuleFileError   a rule file is not valid; ``problems`` holds every one found, with file, line and column
├── TemplateError   an annotation's or label's template cannot be parsed or expanded
├── EvaluationError a rule's answer cannot become alerts or series
├── SilenceError    a silence cannot be taken
├── StateError      the state file cannot be opened, read or written
├── ResponseError   a response cannot be carried out; ``retry`` says whether it may be later
├── NotAllowed      the state of a response does not allow what is asked of it
└── DeliveryError   a receiver did not take a notification; ``retry`` says whether it may later
"""

from collections.abc import Sequence

from collector.signals import DocumentError


class AlertsError(Exception):
    """Root of all errors that alerts raise on purpose."""


class RuleFileError(AlertsError):
    """A rule file is not valid; the message has one line per problem."""

    def __init__(self, problems: Sequence[DocumentError]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class TemplateError(AlertsError):
    """A template cannot be parsed or expanded."""


class EvaluationError(AlertsError):
    """A rule's answer cannot become alerts or series."""


class SilenceError(AlertsError):
    """A silence cannot be taken."""


class StateError(AlertsError):
    """The state file cannot be opened, read or written."""


class ResponseError(AlertsError):
    """A response cannot be carried out."""

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry


class NotAllowed(AlertsError):
    """The state of a response does not allow what is asked of it."""


class DeliveryError(AlertsError):
    """A receiver did not take a notification."""

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry
