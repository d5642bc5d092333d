"""What pages use besides measurements: the alerts process, prices, long work, replays. Each may be absent."""

from dataclasses import dataclass, field

from dashboard.alerting import Alerting
from dashboard.jobs import Jobs
from dashboard.prices import Prices, load
from dashboard.replays import Replays


@dataclass(frozen=True, slots=True)
class Services:
    """``alerting``, ``jobs`` and ``replays`` are None where a dashboard is served without them; the pages then say so.

    ``source_token`` is for child processes that ask the source themselves.
    """

    alerting: Alerting | None = None
    jobs: Jobs | None = None
    replays: Replays | None = None
    prices: Prices = field(default_factory=load)
    source_token: str | None = field(default=None, repr=False)

    def close(self) -> None:
        """End work and connections. Replays go on: their processes are their own."""
        if self.jobs is not None:
            self.jobs.close()
        if self.alerting is not None:
            self.alerting.close()
