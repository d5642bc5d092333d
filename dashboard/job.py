"""The child process of a job: ``python -m dashboard.job`` reads one question from stdin, computes, tells on stdout."""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

NICENESS = 10


def tell(**line: Any) -> None:
    """One line to the parent."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def whatif(question: Mapping[str, Any]) -> None:
    """``planner.room.whatif`` on a live source; the result is the report document."""
    from collector.client import Client
    from collector.signals import detect
    from planner.answers.whatif import whatif_report
    from planner.room.whatif import Change, what_if
    from planner.sim.simulate import versions
    from planner.slo import Slo

    asked = question["asked"]
    with Client(question["address"], token=question["token"]) as client:
        found = what_if(
            client,
            detect(client.metric_names()),
            Slo.model_validate(asked["slo"]),
            asked["pool"],
            Change.model_validate(asked["change"]),
            asked["at_s"],
            progress=lambda done, total, words: tell(progress=[done, total, words]),
        )
    tell(result=whatif_report(found, versions()).model_dump(mode="json"))


def inspect(question: Mapping[str, Any]) -> None:
    """``planner.traces.inspection`` of one trace file; the result is the report document."""
    from pathlib import Path

    from planner.traces.inspection import inspected, report
    from planner.traces.loading import Loading, Wanted, load
    from planner.traces.profile import Profiler

    profilers: list[Profiler] = []

    def take(loading: Loading) -> None:
        profiler = Profiler()
        profilers[:] = [profiler]
        for number, piece in enumerate(loading.pieces(), 1):
            profiler.add(piece)
            tell(progress=[number, 0, f"{profiler.rows:,} requests read"])

    loading = load(Wanted((Path(question["path"]),)), take, lambda text: None)
    what = "; ".join(dict.fromkeys(stream.kind.what for stream in loading.streams))
    accounts = [(stream.path.name, stream.account().counts) for stream in loading.streams]
    tell(result=report(inspected(profilers[0], loading.header(), what, accounts)).model_dump(mode="json"))


KINDS = {"whatif": whatif, "inspect": inspect}


def main() -> int:
    """Answer one question; what fails is told in one line on stderr, exit code 1."""
    from collector.model.errors import CollectorError
    from planner.errors import PlannerError

    os.nice(NICENESS)
    try:
        question = json.load(sys.stdin)
        KINDS[question["kind"]](question)
    except (PlannerError, CollectorError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
