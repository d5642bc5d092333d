"""What every page is wired with: measurements, promise, where pages lie, services."""

from dataclasses import dataclass, field

from dashboard.services import Services
from dashboard.source import Source
from planner.slo import Slo


@dataclass(frozen=True, slots=True)
class Site:
    """``prefix`` begins and ends with a slash and precedes every page's path."""

    source: Source
    slo: Slo
    prefix: str = "/"
    services: Services = field(default_factory=Services)

    def href(self, path: str, search: str = "") -> str:
        """Address of the page at ``path`` (``/latency``) with a query string."""
        return f"{self.prefix}{path.lstrip('/')}{search}"
