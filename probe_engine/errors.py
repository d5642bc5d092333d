"""What can go wrong in the engine.

EngineError
└── ModelError        a model directory, setting or prompt cannot be used by the model
"""


class EngineError(Exception):
    """Root of all errors that the engine raises on purpose."""


class ModelError(EngineError):
    """A model cannot be loaded or run; the message names directory, file, field, value and what is allowed."""
