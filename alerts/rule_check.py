"""What there is to say of a rule file's text: promtool's verdict, remarks, and how often it would have fired."""

from collections.abc import Callable
from typing import Any

from alerts.errors import RuleFileError
from alerts.lint import lint
from alerts.preview import Preview, QueryRange, look_back
from alerts.rule import RuleFile
from alerts.rulefile import read_rule_file
from alerts.verdict import verdict_shown
from collector.model.errors import CollectorError
from collector.signals import DocumentError

PATH = "rules.yml"


def checked(
    text: str, query_range: QueryRange | None, now: Callable[[], float], since_s: float, interval_s: float
) -> dict[str, Any]:
    """The answer of ``POST /api/v1/rules/check``; without ``query_range`` there is no preview."""
    try:
        file = read_rule_file(text, PATH)
    except RuleFileError as error:
        return _answer(None, [_problem(one) for one in error.problems], [str(one) for one in error.problems])
    found = _answer(file, [], [])
    fields = ("line", "column", "rule", "code", "message", "mended")
    found["findings"] = [{name: getattr(one, name) for name in fields} for one in lint([file])]
    if query_range is not None:
        try:
            now_s = now()
            previews = look_back([file], query_range, now_s, since_s, interval_s)
            found["preview"] = [_previewed(one, now_s) for one in previews]
        except CollectorError as error:
            found["previewError"] = str(error)
    return found


def _answer(file: RuleFile | None, problems: list[dict[str, Any]], lines: list[str]) -> dict[str, Any]:
    rules = 0 if file is None else len(file.rules)
    warnings = [] if file is None else list(file.warnings)
    verdict = {"path": PATH, "valid": file is not None, "rules": rules, "problems": lines, "warnings": warnings}
    return {
        "valid": file is not None,
        "verdict": verdict_shown(verdict),
        "rules": rules,
        "problems": problems,
        "warnings": warnings,
        "findings": [],
        "preview": None,
        "previewError": None,
    }


def _problem(problem: DocumentError) -> dict[str, Any]:
    return {"line": problem.line, "column": problem.column, "message": problem.reason}


def _previewed(preview: Preview, now_s: float) -> dict[str, Any]:
    body = preview.as_json() | {"firingSeconds": preview.firing_s(now_s)}
    del body["path"]
    return body
