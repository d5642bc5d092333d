"""How long queries took the last time, so that quick ones are not sent to a thread, which costs more than they do."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

QUICK_S = 0.004
"""A query that took less is answered on the event loop, which waits for it meanwhile.

Of processor time: on a busy machine any query takes long, and a thread longer still.
"""

_KEPT = 2048


class Pace:
    """Seconds by query, on the clock ``now_s`` of the thread that answers. For one thread: the event loop's."""

    def __init__(self, now_s: Callable[[], float] = time.thread_time) -> None:
        self.now_s = now_s
        self._took_s: OrderedDict[Hashable, float] = OrderedDict()

    def is_quick(self, query: Hashable) -> bool:
        """Whether it was quick the last time; False where it was never asked, or long ago."""
        return self._took_s.get(query, QUICK_S) < QUICK_S

    def note(self, query: Hashable, took_s: float) -> None:
        """Remember how long it took."""
        self._took_s[query] = took_s
        self._took_s.move_to_end(query)
        if len(self._took_s) > _KEPT:
            self._took_s.popitem(last=False)
