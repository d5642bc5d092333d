"""Write the schemas from the models that they describe."""

import json
from pathlib import Path
from typing import Any

from planner.replay.runs import run_meta_schema
from planner.report import report_schema
from planner.result import run_schema
from planner.steps.latency import StepModel


def schemas() -> dict[str, dict[str, Any]]:
    """Every published schema by the name of its file."""
    return {
        "model": StepModel.model_json_schema(),
        "report": report_schema(),
        "run": run_schema(),
        "run_meta": run_meta_schema(),
    }


def text_of(schema: dict[str, Any]) -> str:
    """A schema as its file holds it."""
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    for name, schema in schemas().items():
        (Path(__file__).parent / f"{name}.json").write_text(text_of(schema), encoding="utf-8")
