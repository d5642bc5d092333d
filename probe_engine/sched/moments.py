"""Number, sum and spread of whole numbers that come and go, kept exactly and without looking at all of them."""

from typing import NamedTuple


class Population(NamedTuple):
    """Some requests and their lengths: how many, tokens in all, and the population variance of the lengths."""

    requests: int
    tokens: int
    variance: float


class Moments:
    """The running sums of such numbers."""

    __slots__ = ("_squares", "number", "total")

    def __init__(self) -> None:
        self.number = 0
        self.total = 0
        self._squares = 0

    def add(self, value: int) -> None:
        """``value`` has come."""
        self.number += 1
        self.total += value
        self._squares += value * value

    def remove(self, value: int) -> None:
        """One that was ``value`` when it came has gone."""
        self.number -= 1
        self.total -= value
        self._squares -= value * value

    @property
    def variance(self) -> float:
        """Population variance; 0 of nothing. The same if all values are shifted by one number."""
        number = self.number
        return (number * self._squares - self.total * self.total) / (number * number) if number else 0.0

    def population(self) -> Population:
        """As lengths of requests."""
        return Population(self.number, self.total, self.variance)
