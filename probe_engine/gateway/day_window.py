"""What was used in the last 24 hours, in slots of an hour: a sliding window that costs 24 numbers."""

SLOT_S = 3600.0
SLOTS = 24


class DayWindow:
    """Use per hour, the running one and the 23 before it."""

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots: dict[int, float] = {}

    def used(self, now_s: float) -> float:
        """Use within the window."""
        current = int(now_s // SLOT_S)
        for slot in [slot for slot in self._slots if slot <= current - SLOTS]:
            del self._slots[slot]
        return max(0.0, sum(self._slots.values()))

    def add(self, amount: float, now_s: float) -> None:
        """Count ``amount`` now; a negative one takes back what was not used."""
        slot = int(now_s // SLOT_S)
        self._slots[slot] = self._slots.get(slot, 0.0) + amount

    def wait_s(self, amount: float, limit: float, now_s: float) -> float | None:
        """How long until ``amount`` fits below ``limit``: 0 when it does, None when it never will."""
        if amount > limit:
            return None
        used = self.used(now_s)
        if used + amount <= limit:
            return 0.0
        for slot in sorted(self._slots):
            used -= self._slots[slot]
            if used + amount <= limit:
                return (slot + SLOTS) * SLOT_S - now_s
        return 0.0
