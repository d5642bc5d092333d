"""``loadline alerts``: serve, check, test, lint."""

import json
import logging
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alerts.errors import AlertsError, RuleFileError
from alerts.verdict import tested, tested_shown, unreadable, verdict_on, verdict_shown
from collector.model.durations import SHAPE, parse_duration_ms
from collector.model.errors import CollectorError
from collector.signals import DocumentError

if TYPE_CHECKING:
    from collector.signals import Dialect

app = typer.Typer(help="Evaluate and check Prometheus-format rules.", no_args_is_help=True, add_completion=False)

Files = Annotated[list[Path], typer.Argument(help="Rule files.", metavar="FILE...")]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


@app.callback()
def alerts() -> None:
    """Evaluate and check Prometheus-format rules."""


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (127.0.0.1).", envvar="LOADLINE_ALERTS_HOST")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (9193).", envvar="LOADLINE_ALERTS_PORT")] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Prometheus-compatible server to evaluate against (http://127.0.0.1:9190).",
            envvar="LOADLINE_ALERTS_SOURCE",
        ),
    ] = None,
    source_token_file: Annotated[
        Path | None,
        typer.Option(help="File with the bearer token of the source.", envvar="LOADLINE_ALERTS_SOURCE_TOKEN_FILE"),
    ] = None,
    rules: Annotated[
        list[Path] | None,
        typer.Option(help="Rule file; may be repeated (default: the packs).", envvar="LOADLINE_ALERTS_RULES"),
    ] = None,
    webhook: Annotated[
        list[str] | None,
        typer.Option(
            help="Address that gets Alertmanager's webhook payload; may be repeated.", envvar="LOADLINE_ALERTS_WEBHOOK"
        ),
    ] = None,
    alertmanager: Annotated[
        list[str] | None,
        typer.Option(help="Alertmanager's root address; may be repeated.", envvar="LOADLINE_ALERTS_ALERTMANAGER"),
    ] = None,
    slack_url_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the address of a Slack incoming webhook.", envvar="LOADLINE_ALERTS_SLACK_URL_FILE"
        ),
    ] = None,
    pagerduty_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with a PagerDuty routing key (Events API v2).", envvar="LOADLINE_ALERTS_PAGERDUTY_KEY_FILE"
        ),
    ] = None,
    pagerduty_url: Annotated[
        str | None,
        typer.Option(
            help="Where PagerDuty takes events (https://events.pagerduty.com/v2/enqueue).",
            envvar="LOADLINE_ALERTS_PAGERDUTY_URL",
        ),
    ] = None,
    email_to: Annotated[
        list[str] | None,
        typer.Option(help="Address that gets mails; may be repeated.", envvar="LOADLINE_ALERTS_EMAIL_TO"),
    ] = None,
    email_from: Annotated[
        str | None,
        typer.Option(help="Address that mails come from (loadline@localhost).", envvar="LOADLINE_ALERTS_EMAIL_FROM"),
    ] = None,
    smtp: Annotated[
        str | None,
        typer.Option(help="Mail server, host:port (127.0.0.1:25).", envvar="LOADLINE_ALERTS_SMTP"),
    ] = None,
    smtp_user: Annotated[
        str | None, typer.Option(help="User of the mail server; needs TLS.", envvar="LOADLINE_ALERTS_SMTP_USER")
    ] = None,
    smtp_password_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the password of the mail server's user.", envvar="LOADLINE_ALERTS_SMTP_PASSWORD_FILE"
        ),
    ] = None,
    notify_config: Annotated[
        Path | None,
        typer.Option(
            help="File with group_by, its times and inhibit_rules, as Alertmanager writes them.",
            envvar="LOADLINE_ALERTS_NOTIFY_CONFIG",
        ),
    ] = None,
    responses: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with the catalogue of responses; without it none acts unasked.",
            envvar="LOADLINE_ALERTS_RESPONSES",
        ),
    ] = None,
    gateway: Annotated[
        str | None,
        typer.Option(help="Gateway whose admin API carries responses out.", envvar="LOADLINE_ALERTS_GATEWAY"),
    ] = None,
    gateway_token_file: Annotated[
        Path | None,
        typer.Option(help="File with the gateway's admin token.", envvar="LOADLINE_ALERTS_GATEWAY_TOKEN_FILE"),
    ] = None,
    operator_token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the bearer token for confirming, dismissing and undoing responses.",
            envvar="LOADLINE_ALERTS_OPERATOR_TOKEN_FILE",
        ),
    ] = None,
    response_log: Annotated[
        Path | None,
        typer.Option(
            help="File that gets a line of JSON for each change of a response (responses.jsonl beside --state).",
            envvar="LOADLINE_ALERTS_RESPONSE_LOG",
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="File that keeps alerts and undelivered notifications over a restart.", envvar="LOADLINE_ALERTS_STATE"
        ),
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option(
            help="Time between evaluations of groups that give none (30s).", envvar="LOADLINE_ALERTS_INTERVAL"
        ),
    ] = None,
    external_url: Annotated[
        str | None,
        typer.Option(help="Page for people that notifications link to.", envvar="LOADLINE_ALERTS_EXTERNAL_URL"),
    ] = None,
    auth_token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the bearer token that clients must send; needed beyond loopback.",
            envvar="LOADLINE_ALERTS_AUTH_TOKEN_FILE",
        ),
    ] = None,
) -> None:
    """Evaluate rules against a Prometheus-compatible server, notify, and answer /api/v1/rules and /api/v1/alerts."""
    given = {name: value for name, value in locals().items() if value is not None and value != []}
    _log_to_stderr()
    from pydantic import ValidationError

    from alerts.settings import AlertsSettings

    try:
        settings = AlertsSettings.model_validate(given)
    except ValidationError as error:
        raise _refused(*(_setting_fault(fault) for fault in error.errors())) from error
    from alerts.server import serve as run

    try:
        run(settings)
    except (AlertsError, CollectorError) as error:
        raise _refused(str(error)) from error


@app.command()
def check(files: Files, as_json: Json = False) -> None:
    """Say whether rule files are valid; 0 if all are, 1 if one is not, 2 if one cannot be read."""
    verdicts = [verdict_on(path) for path in files]
    if as_json:
        print(json.dumps({"files": verdicts}, indent=2))
    else:
        for verdict in verdicts:
            print(verdict_shown(verdict))
    raise typer.Exit(max(verdict["code"] for verdict in verdicts))


@app.command()
def slo(
    file: Annotated[Path, typer.Argument(help="Objectives: OpenSLO v1, or Sloth's prometheus/v1.", metavar="FILE")],
    dialect: Annotated[
        list[str] | None,
        typer.Option(
            help="Engine whose names stand for signals; may be repeated (loadline).", envvar="LOADLINE_ALERTS_DIALECT"
        ),
    ] = None,
    runbook: Annotated[
        str, typer.Option(help="Runbook that every alert links to.", envvar="LOADLINE_ALERTS_RUNBOOK")
    ] = "",
) -> None:
    """Write burn-rate rules for service level objectives; 0 if written, 1 if not valid, 2 if it cannot be read."""
    from alerts.slo import read_slo_file, rule_file
    from collector.signals import Vocabulary

    dialects = _dialects(dialect or ["loadline"])
    try:
        reading = read_slo_file(file.read_text(encoding="utf-8"), str(file), Vocabulary.of(dialects))
    except DocumentError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(unreadable(error)) from error
    text = rule_file(reading, runbook)
    for warning in reading.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(text, end="")


@app.command()
def render(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Rule files with signals in place of series (the packs).", metavar="[FILE...]"),
    ] = None,
    dialect: Annotated[
        list[str] | None,
        typer.Option(
            help="Engine or exporter whose names to write; may be repeated (all).", envvar="LOADLINE_ALERTS_DIALECT"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder to write one file for each to (stdout).", envvar="LOADLINE_ALERTS_OUTPUT"),
    ] = None,
) -> None:
    """Write engine-neutral rules as plain Prometheus rules; 0 if written, 1 if not valid, 2 if unreadable."""
    from alerts.emit import emit
    from alerts.render import render as rendering
    from alerts.rulefile import neutral_packs
    from collector.signals import Vocabulary, load_dialects

    names = dialect or [each.engine for each in load_dialects()]
    vocabulary = Vocabulary.of(_dialects(dict.fromkeys([*names, "scrape"])))
    remarks = [f"Written by: loadline alerts render {' '.join(f'--dialect {name}' for name in names)}"]
    groups = []
    for path in files or neutral_packs():
        try:
            done = rendering(path.read_text(encoding="utf-8"), str(path), vocabulary)
        except (DocumentError, RuleFileError) as error:
            print(error, file=sys.stderr)
            raise typer.Exit(1) from error
        except (OSError, UnicodeDecodeError) as error:
            raise _refused(unreadable(error)) from error
        for rule, reason in done.left_out:
            print(f"left out: {rule}: {reason}", file=sys.stderr)
        groups += done.groups
        if output is not None and done.groups:
            output.mkdir(parents=True, exist_ok=True)
            (output / path.name).write_text(emit(done.groups, remarks), encoding="utf-8")
    if output is None:
        print(emit(groups, remarks), end="")


@app.command()
def preview(
    files: Files,
    source: Annotated[
        str,
        typer.Option(help="Prometheus-compatible server whose history to ask.", envvar="LOADLINE_ALERTS_SOURCE"),
    ] = "http://127.0.0.1:9190",
    source_token_file: Annotated[
        Path | None,
        typer.Option(help="File with the bearer token of the source.", envvar="LOADLINE_ALERTS_SOURCE_TOKEN_FILE"),
    ] = None,
    since: Annotated[str, typer.Option(help="How far to look back.", envvar="LOADLINE_ALERTS_SINCE")] = "24h",
    interval: Annotated[
        str,
        typer.Option(help="Time between evaluations of groups that give none.", envvar="LOADLINE_ALERTS_INTERVAL"),
    ] = "30s",
    as_json: Json = False,
) -> None:
    """Say how often each alert would have fired; 0 if it can be told, 1 if a rule fails, 2 if nothing can be read."""
    from alerts.preview import look_back, table
    from alerts.rulefile import load_rule_file
    from collector.client import Client

    since_s, interval_s = _seconds("--since", since), _seconds("--interval", interval)
    try:
        read = [load_rule_file(path) for path in files]
        token = None if source_token_file is None else source_token_file.read_text(encoding="utf-8").strip()
        with Client(source, token=token, timeout_s=60.0) as client:
            found = look_back(read, client.query_range, time.time(), since_s, interval_s)
    except RuleFileError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(unreadable(error)) from error
    except CollectorError as error:
        raise _refused(str(error)) from error
    print(json.dumps([each.as_json() for each in found], indent=2) if as_json else table(found, since))
    raise typer.Exit(1 if any(each.error for each in found) else 0)


@app.command("test")
def test_rules(
    files: Annotated[list[Path], typer.Argument(help="Test files in promtool's format.", metavar="FILE...")],
    prometheus: Annotated[
        int,
        typer.Option(
            min=2,
            max=3,
            help="Whose ranges to use: 3 leaves out a sample at the very start of a range, 2 counts it.",
            envvar="LOADLINE_ALERTS_PROMETHEUS",
        ),
    ] = 3,
    as_json: Json = False,
) -> None:
    """Run unit tests of rules; 0 if all hold, 1 if one does not, 2 if a file cannot be read."""
    from collector.promql import Engine

    engine = Engine(left_open=prometheus == 3)
    verdicts = [tested(path, engine) for path in files]
    if as_json:
        print(json.dumps({"files": verdicts}, indent=2))
    else:
        for verdict in verdicts:
            print(tested_shown(verdict))
    raise typer.Exit(max(verdict["code"] for verdict in verdicts))


@app.command()
def lint(files: Files, as_json: Json = False) -> None:
    """Remark on what is valid but commonly wrong; 0 if nothing is, 1 if something is, 2 if a file cannot be read."""
    from alerts.lint import lint as remarks_on
    from alerts.rulefile import load_rule_file

    try:
        read = [load_rule_file(path) for path in files]
    except RuleFileError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(unreadable(error)) from error
    findings = remarks_on(read)
    if as_json:
        fields = ("path", "line", "column", "rule", "code", "message", "mended")
        print(json.dumps([{name: getattr(finding, name) for name in fields} for finding in findings], indent=2))
    else:
        print("\n".join(map(str, findings)) or f"{sum(len(file.rules) for file in read)} rules, no remarks")
    raise typer.Exit(1 if findings else 0)


def _seconds(option: str, text: str) -> float:
    duration_ms = parse_duration_ms(text)
    if not duration_ms:
        raise _refused(f'{option} is "{text}"; {SHAPE}')
    return duration_ms / 1000


def _dialects(names: Iterable[str]) -> "list[Dialect]":
    from collector.signals import load_dialects

    known = {dialect.engine: dialect for dialect in load_dialects()}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise _refused(f"--dialect is {unknown[0]!r}; allowed are {', '.join(sorted(known))}")
    return [known[name] for name in names]


def _setting_fault(fault: Any) -> str:
    if not fault["loc"]:
        return str(fault["msg"]).removeprefix("Value error, ")
    name = str(fault["loc"][0]).replace("_", "-")
    reason = str(fault["msg"]).removeprefix("Value error, ")
    return f"--{name} is {fault['input']!r}; {reason[:1].lower()}{reason[1:]}"


def _refused(*lines: str) -> typer.Exit:
    for line in lines:
        print(line, file=sys.stderr)
    return typer.Exit(2)


def _log_to_stderr() -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
