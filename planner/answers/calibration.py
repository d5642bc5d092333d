"""A fitted step-time model with its error, as a report."""

from planner.answers.inputs import step_error
from planner.report import Cell, Report, Table
from planner.steps.latency import StepModel


def calibration_report(model: StepModel) -> Report:
    """A fitted model with its error."""
    error = step_error(model)
    costs: list[tuple[Cell, ...]] = [(name.replace("_", " "), cost * 1e6) for name, cost in model.costs_s.items()]
    costs.extend((f"per {h.variable.replace('_', ' ')} up to {h.knot:g}", h.seconds * 1e6) for h in model.hinges)
    costs.append(("gap between steps", model.step_gap_s * 1e6))
    where = "on held-out observations" if error.held_out else "on the observations it was fitted on"
    overhead = model.overhead
    told = (
        f"a request waits {overhead.fixed_s * 1e3:.2f} ms and {overhead.per_prompt_token_s * 1e6:.2f} µs per prompt "
        f"token beyond the engine's clock ({overhead.requests} requests)"
        if overhead.requests
        else "overhead beyond the engine's clock was not measured and is taken as 0"
    )
    return Report(
        kind="calibration",
        title=f"Step-time model from {model.source}",
        findings=(
            f"{model.form} form: mean error {error.mean:.1%}, bias {error.bias:+.1%} {where} ({error.observations})",
            told,
        ),
        inputs={"source": model.source, "engine": model.engine or None, "scheduler": model.scheduler},
        model_error=error,
        tables=(Table(title="Costs", columns=("of", "µs"), rows=tuple(costs)),),
        notes=model.notes,
        result=model.model_dump(mode="json"),
    )
