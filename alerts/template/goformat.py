"""How Go's fmt prints values: ``%v`` of numbers, and ``printf``."""

import math
import re
from typing import Any

_VERB = re.compile(r"%(?P<flags>[-+# 0]*)(?P<width>\d+)?(?:\.(?P<precision>\d*))?(?P<verb>.?)", re.DOTALL)
_EXPONENT_FROM = 6


def show(value: Any) -> str:
    """``%v`` of a value: shortest decimal of a float, ``map[a:b]`` of a mapping, ``[a b]`` of a list."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return show_float(value)
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{show(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(show(item) for item in value) + "]"
    return str(value)


def show_float(value: float) -> str:
    """``%v`` of a float64: shortest digits, an exponent below 1e-4 and from 1e6."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    sign, digits, exponent = _shortest(value)
    if exponent < -4 or exponent >= _EXPONENT_FROM:
        mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
        return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    return sign + whole + (f".{digits[exponent + 1 :]}" if len(digits) > exponent + 1 else "")


def show_exponent(value: float) -> str:
    """``strconv.FormatFloat(value, 'e', -1, 64)``, as the API writes an alert's value: ``1.5e+00``."""
    if not math.isfinite(value):
        return show_float(value)
    sign, digits, exponent = _shortest(value)
    mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def four_digits(value: float) -> str:
    """``%.4g``."""
    return _float_verb("g", value, "", 4)


def printf(template: str, *arguments: Any) -> str:
    """Go's ``fmt.Sprintf`` for the verbs v s q d f F e E g G x X t c and %%."""
    rest = list(arguments)

    def one(found: re.Match[str]) -> str:
        verb = found["verb"]
        if verb == "%":
            return "%"
        if not verb:
            return "%!(NOVERB)"
        if not rest:
            return f"%!{verb}(MISSING)"
        precision = None if found["precision"] is None else int(found["precision"] or 0)
        text = _formatted(verb, rest.pop(0), found["flags"], precision)
        return _padded(text, found["flags"], int(found["width"] or 0), number=verb in "dfFeEgGxX")

    text = _VERB.sub(one, template)
    if rest:
        text += "%!(EXTRA " + ", ".join(f"{_go_type(value)}={show(value)}" for value in rest) + ")"
    return text


def _formatted(verb: str, value: Any, flags: str, precision: int | None) -> str:
    if verb == "v":
        return show(value)
    if verb == "s" and isinstance(value, str):
        return value if precision is None else value[:precision]
    if verb == "s" and isinstance(value, list | tuple | dict):
        return show(value)
    if verb == "q" and isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
    if verb == "t" and isinstance(value, bool):
        return show(value)
    if isinstance(value, int) and not isinstance(value, bool) and verb in "dxXc":
        return {"d": lambda: _signed(f"{value:d}", flags), "c": lambda: chr(value)}.get(
            verb, lambda: format(value, verb)
        )()
    if isinstance(value, float) and verb in "fFeEgG":
        return _signed(_float_verb(verb, value, flags, precision), flags)
    if isinstance(value, str) and verb in "xX":
        return format(value.encode().hex(), "s") if verb == "x" else value.encode().hex().upper()
    return f"%!{verb}({_go_type(value)}={show(value)})"


def _float_verb(verb: str, value: float, flags: str, precision: int | None) -> str:
    if not math.isfinite(value):
        return show_float(value)
    if verb in "gG" and precision is None:
        text = show_float(value)
        return text.upper() if verb == "G" else text
    digits = 6 if precision is None else precision
    return format(value, f"{'#' if '#' in flags else ''}.{digits}{verb.replace('F', 'f')}")


def _signed(text: str, flags: str) -> str:
    if text[:1] in "+-":
        return text
    if "+" in flags:
        return f"+{text}"
    return f" {text}" if " " in flags else text


def _padded(text: str, flags: str, width: int, *, number: bool) -> str:
    if "-" in flags:
        return text.ljust(width)
    return text.zfill(width) if "0" in flags and number else text.rjust(width)


def _shortest(value: float) -> tuple[str, str, int]:
    """Sign, significant digits and decimal exponent of the shortest text that reads back as ``value``."""
    if value == 0:
        return ("-" if math.copysign(1, value) < 0 else ""), "0", 0
    mantissa, _, exponent = f"{value!r}".lower().lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    leading = len(whole) - 1 if whole.strip("0") else -(len(fraction) - len(fraction.lstrip("0")) + 1)
    return ("-" if value < 0 else ""), digits.rstrip("0") or "0", leading + int(exponent or 0)


def _go_type(value: Any) -> str:
    if value is None:
        return "<nil>"
    names = {
        bool: "bool",
        int: "int",
        float: "float64",
        str: "string",
        dict: "map[string]string",
        list: "[]interface {}",
    }
    return names.get(type(value), type(value).__name__)
