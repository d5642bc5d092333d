"""Verdicts on rule files and on test files, as ``check`` and ``test`` give them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alerts.errors import RuleFileError
from collector.signals import DocumentError

if TYPE_CHECKING:
    from collector.promql import Engine


def tested(path: Path, engine: "Engine") -> dict[str, Any]:
    """What became of the tests of one file, as ``--json`` prints it."""
    from alerts.ruletest import read_test_file, run_test_file

    code, problems = 0, []
    warnings: list[str] = []
    try:
        file = read_test_file(path.read_text(encoding="utf-8"), str(path))
        problems = [str(failure) for failure in run_test_file(file, engine, warnings.append)]
        code = 1 if problems else 0
    except (DocumentError, RuleFileError) as error:
        code, problems = 1, [str(error)]
    except (OSError, UnicodeDecodeError) as error:
        code, problems = 2, [unreadable(error)]
    return {"path": str(path), "passed": code == 0, "code": code, "failures": problems, "warnings": warnings}


def tested_shown(verdict: dict[str, Any]) -> str:
    """The outcome of one test file for people."""
    lines = [f"Unit Testing:  {verdict['path']}"]
    lines += [f"  warning: {line}" for line in verdict["warnings"]]
    lines.append("  SUCCESS" if verdict["passed"] else "  FAILED:")
    lines += ["    " + failure.replace("\n", "\n    ") for failure in verdict["failures"]]
    return "\n".join(lines)


def verdict_on(path: Path) -> dict[str, Any]:
    """Whether one rule file is valid, as ``--json`` prints it."""
    from alerts.rulefile import load_rule_file

    try:
        read = load_rule_file(path)
    except RuleFileError as error:
        return _answer(path, 1, problems=[str(problem) for problem in error.problems])
    except (OSError, UnicodeDecodeError) as error:
        return _answer(path, 2, problems=[f"{path}: cannot be read: {error}"])
    return _answer(path, 0, rules=len(read.rules), warnings=read.warnings)


def _answer(
    path: Path, code: int, *, rules: int = 0, problems: Sequence[str] = (), warnings: Sequence[str] = ()
) -> dict[str, Any]:
    return {
        "path": str(path),
        "valid": code == 0,
        "code": code,
        "rules": rules,
        "problems": list(problems),
        "warnings": list(warnings),
    }


def verdict_shown(verdict: dict[str, Any]) -> str:
    """The verdict on one rule file for people."""
    count = verdict["rules"]
    found = f"  SUCCESS: {count} {'rule' if count == 1 else 'rules'} found"
    lines = [f"Checking {verdict['path']}", found if verdict["valid"] else "  FAILED:"]
    lines += [f"    {line}" for line in verdict["problems"]]
    lines += [f"  warning: {line}" for line in verdict["warnings"]]
    return "\n".join(lines)


def unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Why a file cannot be read."""
    return f"{error.filename}: cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
