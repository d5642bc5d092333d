"""OTLP attributes as plain values."""

import base64
from collections.abc import Iterable

import orjson
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from collector.model.spans import AttributeValue


def read_attributes(pairs: Iterable[KeyValue]) -> dict[str, AttributeValue]:
    """Attributes by name; maps become JSON text, bytes base64 text, mixed lists lists of text."""
    return {pair.key: read_value(pair.value) for pair in pairs}


def read_value(value: AnyValue) -> AttributeValue:
    """One attribute value."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        items = [read_value(item) for item in value.array_value.values]
        for primitive in (bool, str, int, float):
            if all(type(item) is primitive for item in items):
                return items  # type: ignore[return-value]
        return [item if isinstance(item, str) else orjson.dumps(item).decode() for item in items]
    if kind == "kvlist_value":
        return orjson.dumps(read_attributes(value.kvlist_value.values)).decode()
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    plain: AttributeValue = getattr(value, kind) if kind else ""
    return plain


def as_text(value: AttributeValue) -> str:
    """An attribute value as the text of a label."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not isinstance(value, bool):
        return repr(value)
    return orjson.dumps(value).decode()
