"""Trace and span ids of OTLP as text."""

TRACE_BYTES, SPAN_BYTES = 16, 8


def read_id(subject: str, raw: bytes, length: int) -> str:
    """Lower-case hexadecimal; ValueError where it has another length or is all zeros."""
    if len(raw) != length or not any(raw):
        raise ValueError(f'{subject} "{raw.hex()}" is not {2 * length} hexadecimal digits, not all of them 0')
    return raw.hex()


def optional_id(raw: bytes, length: int) -> str | None:
    """The same; None where there is no valid id."""
    return raw.hex() if len(raw) == length and any(raw) else None
