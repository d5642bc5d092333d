"""Numbers and times in a block of text, parsed for all its lines at once.

What is not plainly written is not decided here: the second array of each answer says which fields were understood.
"""

import numpy as np
import numpy.typing as npt

from planner.traces.trace import BoolArray, IntArray

Text = npt.NDArray[np.uint8]

_POWERS = 10 ** np.arange(19, dtype=np.int64)
_DAYS_BEFORE = np.array([0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334])
_DAYS_IN = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def whole_numbers(text: Text, start: IntArray, end: IntArray, widest: int = 9) -> tuple[IntArray, BoolArray]:
    """Values of the digit strings ``text[start:end]``, and which were digits only, at most ``widest`` of them."""
    width = end - start
    understood = (width >= 1) & (width <= widest)
    value = np.zeros(len(start), dtype=np.int64)
    for place in range(min(int(width.max(initial=0)), widest)):
        inside = width > place
        digit = text[np.where(inside, end - 1 - place, 0)].astype(np.int64) - 48
        understood &= ~inside | ((digit >= 0) & (digit <= 9))
        value += np.where(inside, digit, 0) * _POWERS[place]
    return value, understood


def seconds_as_ns(text: Text, start: IntArray, end: IntArray) -> tuple[IntArray, BoolArray]:
    """Plain decimal seconds such as ``12.5`` as ns, and which had at most 9 decimals and 18 digits in all."""
    width = end - start
    understood = (width >= 1) & (width <= 18)
    value = np.zeros(len(start), dtype=np.int64)
    decimals = np.full(len(start), -1, dtype=np.int64)
    digits = np.zeros(len(start), dtype=np.int64)
    for place in range(min(int(width.max(initial=0)), 18)):
        inside = width > place
        character = text[np.where(inside, start + place, 0)].astype(np.int64)
        dot = inside & (character == 46)
        digit = character - 48
        is_digit = inside & (digit >= 0) & (digit <= 9)
        understood &= ~inside | is_digit | (dot & (decimals < 0))
        value = np.where(is_digit, value * 10 + digit, value)
        decimals = np.where(is_digit & (decimals >= 0), decimals + 1, np.where(dot, 0, decimals))
        digits += is_digit
    fraction = np.maximum(decimals, 0)
    understood &= (fraction <= 9) & (digits >= 1) & (digits - fraction <= 9)
    return value * _POWERS[9 - np.minimum(fraction, 9)], understood


def wall_clock_ns(text: Text, start: IntArray, end: IntArray) -> tuple[IntArray, BoolArray, int]:
    """Times ``YYYY-MM-DD HH:MM:SS.f`` as ns since the epoch, which were so, and the digits of their fraction.

    All must be as wide as the first one.
    """
    width = int(end[0] - start[0]) if len(start) else 0
    fraction = width - 20
    if width != 19 and not 1 <= fraction <= 9:
        return np.zeros(len(start), dtype=np.int64), np.zeros(len(start), dtype=np.bool_), 0
    understood = end - start == width
    safe = np.where(understood, start, start[np.argmax(understood)])
    for place, character in ((4, 45), (7, 45), (13, 58), (16, 58), *(((19, 46),) if fraction > 0 else ())):
        understood &= text[safe + place] == character
    between = text[safe + 10]
    understood &= (between == 32) | (between == 84)

    def number(first: int, last: int) -> IntArray:
        found = np.zeros(len(safe), dtype=np.int64)
        for place in range(first, last):
            digit = text[safe + place] - np.uint8(48)  # what is below "0" wraps round to above 9
            np.logical_and(understood, digit <= 9, out=understood)
            found = found * 10 + digit
        return found

    year, month, day = number(0, 4), number(5, 7), number(8, 10)
    hour, minute, second = number(11, 13), number(14, 16), number(17, 19)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    understood &= (month >= 1) & (month <= 12) & (hour <= 23) & (minute <= 59) & (second <= 59)
    month = np.clip(month, 1, 12)
    understood &= (day >= 1) & (day <= _DAYS_IN[month] + (leap & (month == 2))) & (year >= 1900) & (year <= 2100)
    before = year - 1
    days = 365 * before + before // 4 - before // 100 + before // 400 - 719_162
    days += _DAYS_BEFORE[month] + (leap & (month > 2)) + day - 1
    total = ((days * 24 + hour) * 60 + minute) * 60 + second
    parts = number(20, width) * _POWERS[9 - fraction] if fraction > 0 else 0
    return total * 1_000_000_000 + parts, understood, max(fraction, 0)
