"""Numbers as text, the way Go and with it Prometheus's JSON writes them: ``1``, ``0.25``, ``1e+21``, ``NaN``, ``+Inf``.

Shortest text that reads back as the same number; exponents only below 1e-6 and from 1e21 on (util/jsonutil in
Prometheus).
"""

import math

import numpy as np
import orjson

from collector.model.series import Float64Array


def float_text(value: float) -> str:
    """One number as text."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    if "e" not in text:
        return text.removesuffix(".0")
    if 1e-6 <= abs(value) < 1e21:
        return np.format_float_positional(value, trim="-")
    return text


def float_texts(values: Float64Array) -> list[bytes]:
    """Texts of many numbers, about ten times as fast as one after the other."""
    if not len(values):
        return []
    body = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    texts = body[1:-1].replace(b".0,", b",").removesuffix(b".0").split(b",")
    if b"e" in body or b"n" in body:
        for place, text in enumerate(texts):
            if b"e" in text or text == b"null":
                texts[place] = float_text(float(values[place])).encode()
    return texts
