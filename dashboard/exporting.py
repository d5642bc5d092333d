"""Writes the pages as files for Grafana: what the command ``loadline dashboard export`` does."""

from pathlib import Path
from typing import TextIO

import orjson

from collector.client import Client
from collector.signals import Vocabulary, detect, load_dialects
from dashboard.errors import SettingsError
from dashboard.grafana import Dashboard, dashboards
from dashboard.server import read_slo, read_token
from dashboard.site import Site
from dashboard.source import Source

USUAL = ("loadline",)
BESIDE = ("dcgm", "scrape")
"""Exporters that are asked for too where dialects are named: GPUs, and the scrapes themselves."""


def write_grafana(
    out: Path,
    address: str | None,
    token_file: Path | None,
    names: tuple[str, ...],
    slo: Path | None,
    said: TextIO,
    told: TextIO,
) -> tuple[Dashboard, ...]:
    """One file per page below ``out``; tells of each on ``said``, and on ``told`` of what no query can be written for.

    Raises SettingsError, SourceError where the source does not answer, OSError where a file cannot be written.
    """
    client = Client(address or "http://127.0.0.1:9190", token=read_token("--source-token-file", token_file))
    source = Source(client)
    try:
        vocabulary = detect(client.metric_names()) if address is not None and not names else spoken(names or USUAL)
        if not vocabulary.dialects:
            raise SettingsError(f"--source {address} holds no metric that is known; name what it will hold: --dialect")
        made = tuple(dashboards(vocabulary, Site(source, read_slo(slo, {}), "/")))
    finally:
        source.close()
    out.mkdir(parents=True, exist_ok=True)
    for one in made:
        path = out / f"loadline-{one.name}.json"
        path.write_bytes(orjson.dumps(one.model, option=orjson.OPT_INDENT_2) + b"\n")
        print(f"{path}: {len(one.model['panels'])} panels", file=said)
        for why in one.left_out:
            print(f"left out: {why}", file=told)
    return made


def spoken(names: tuple[str, ...]) -> Vocabulary:
    """All that the dialects ``names`` can expose. Raises SettingsError for a name that is not known."""
    known = {one.engine: one for one in load_dialects()}
    for name in names:
        if name not in known:
            raise SettingsError(f"--dialect {name}: must be one of {', '.join(sorted(known))}")
    return Vocabulary.of([known[name] for name in dict.fromkeys((*names, *BESIDE)) if name in known])
