"""What serving costs under each plan and where they break even, as a report."""

from fractions import Fraction
from itertools import combinations, pairwise

from planner.money.cost import PairAnswer, Plan, PriceTable, break_even, cheapest, tornado
from planner.report import Cell, Chart, Mark, Report, Series, Table, shown

POINTS = 121
TORNADO_SWING = Fraction(1, 5)


def cost_report(prices: PriceTable, source: str, tokens_per_day: Fraction | None) -> Report:
    """Cheapest plan by volume, break-evens, claims held against them, and the bill at ``tokens_per_day``."""
    plans, days = prices.plan, Fraction(prices.days_per_month)
    pairs = [break_even(a, b) for a, b in combinations(plans, 2)]
    by_name = {plan.name: plan for plan in plans}
    reaches = cheapest(plans)
    never = [plan.name for plan in plans if plan.name not in {reach.plan for reach in reaches}]
    findings = [_order_words(reaches[0].plan, [(r.plan, r.from_tokens) for r in reaches[1:]], days)]
    findings.extend(f"{name} is dominated: at every volume another plan is cheaper" for name in never)
    findings.extend(_claims(prices, pairs))
    tables = [_pairs_table(pairs, plans, days), *_steps_table(pairs, days), _swing_table(plans, days)]
    if tokens_per_day is not None:
        tables[:0] = [_bill_table(plans, tokens_per_day * days), _items_table(plans, tokens_per_day * days)]
        bills = [(plan.usd_per_month(tokens_per_day * days), plan.name) for plan in plans]
        findings.insert(
            0, f"at {_tokens(tokens_per_day)} a day {min(bills)[1]} is cheapest: ${float(min(bills)[0]):,.2f} a month"
        )
    limits = {pair.searched_to for pair in pairs if pair.searched_to is not None}
    notes = [f"staircases were searched up to {_tokens(max(limits))} a month"] if limits else []
    if prices.note:
        notes.append(prices.note)
    return Report(
        kind="cost",
        title=f"Cost of the plans in {source}",
        findings=tuple(findings),
        inputs={
            "price_table": source,
            "days_per_month": float(days),
            "tokens_per_day": None if tokens_per_day is None else float(tokens_per_day),
        },
        tables=tuple(tables),
        charts=(_chart(plans, pairs, days),),
        notes=tuple(notes),
        result={
            "break_even": [
                {
                    "a": pair.a,
                    "b": pair.b,
                    "verdict": pair.verdict,
                    "cheaper": pair.cheaper,
                    "searched_to_tokens_per_month": None if pair.searched_to is None else float(pair.searched_to),
                    "crossovers": [
                        {
                            "tokens_per_month": float(change.tokens),
                            "tokens_per_day": float(change.tokens / days),
                            "kind": change.kind,
                            "cheaper_below": change.cheaper_below,
                            "cheaper_above": change.cheaper_above,
                            "usd_per_month": [
                                float(by_name[name].usd_per_month(change.tokens)) for name in (pair.a, pair.b)
                            ],
                        }
                        for change in pair.crossovers
                    ],
                }
                for pair in pairs
            ],
            "cheapest": [
                {
                    "plan": reach.plan,
                    "from_tokens_per_month": float(reach.from_tokens),
                    "to_tokens_per_month": None if reach.to_tokens is None else float(reach.to_tokens),
                }
                for reach in reaches
            ],
            "dominated": never,
        },
    )


def _order_words(first: str, later: list[tuple[str, Fraction]], days: Fraction) -> str:
    text = f"{first} is cheapest from 0"
    for name, tokens in later[:6]:
        text += f", {name} from {_tokens(tokens)} a month ({_tokens(tokens / days)} a day)"
    return text + (f", and {len(later) - 6} more changes" if len(later) > 6 else "")


def _claims(prices: PriceTable, pairs: list[PairAnswer]) -> list[str]:
    """Each claimed break-even against the true one of the same prices."""
    days = Fraction(prices.days_per_month)
    told = []
    for plan in prices.plan:
        if plan.claim_tokens_per_day is None or plan.claim_against is None:
            continue
        claimed = Fraction(plan.claim_tokens_per_day)
        pair = next(pair for pair in pairs if {pair.a, pair.b} == {plan.name, plan.claim_against})
        said = f"claimed: {plan.name} breaks even with {plan.claim_against} at {_tokens(claimed)} a day"
        if pair.crossovers:
            true = pair.crossovers[0].tokens / days
            told.append(f"{said}; true: {_tokens(true)} a day, {shown(float(true / claimed))} times as much")
        else:
            told.append(f"{said}; true: {_verdict(pair)}")
    return told


def _verdict(pair: PairAnswer) -> str:
    if pair.verdict == "same":
        return "the same bill at every volume"
    return f"never: {pair.cheaper} is cheaper at every volume"


def _pairs_table(pairs: list[PairAnswer], plans: tuple[Plan, ...], days: Fraction) -> Table:
    by_name = {plan.name: plan for plan in plans}
    rows: list[tuple[Cell, ...]] = []
    for pair in pairs:
        if not pair.crossovers:
            rows.append((f"{pair.a} / {pair.b}", None, None, None, _verdict(pair)))
        for change in pair.crossovers:
            if change.kind == "equal":
                bill = float(by_name[change.cheaper_above].usd_per_month(change.tokens))
                month, day = _millions(change.tokens), _millions(change.tokens / days)
                rows.append((f"{pair.a} / {pair.b}", month, day, bill, f"{change.cheaper_above} above"))
    return Table(
        title="Break-even",
        columns=("plans", "M tokens a month", "M tokens a day", "USD a month there", "cheaper"),
        rows=tuple(rows),
    )


def _steps_table(pairs: list[PairAnswer], days: Fraction) -> list[Table]:
    """Volumes at which the order changes with a jump: no break-even, since the bills differ on either side."""
    rows = tuple(
        (
            f"{pair.a} / {pair.b}",
            float(change.tokens / 10**6),
            float(change.tokens / days / 10**6),
            change.cheaper_above,
        )
        for pair in pairs
        for change in pair.crossovers
        if change.kind == "step"
    )
    columns = ("plans", "M tokens a month", "M tokens a day", "cheaper above")
    note = "Just above each volume one plan adds a replica, and the other is cheaper at once."
    return [Table(title="Where a replica more turns the order", columns=columns, rows=rows, note=note)] if rows else []


def _items_table(plans: tuple[Plan, ...], tokens: Fraction) -> Table:
    """What each bill is made of."""
    bills = {plan.name: plan.items(tokens) for plan in plans}
    names = list(dict.fromkeys(name for items in bills.values() for name in items))
    rows = tuple(
        (plan, *(float(items[name]) if name in items else None for name in names)) for plan, items in bills.items()
    )
    return Table(title="What the bill is made of, USD a month", columns=("plan", *names), rows=rows)


def _swing_table(plans: tuple[Plan, ...], days: Fraction) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for a, b in combinations(plans, 2):
        for what, low, high in tornado(a, b, TORNADO_SWING):
            ends = ("never" if end is None else float(end / days / 1_000_000) for end in (low, high))
            rows.append((f"{a.name} / {b.name}", what, *ends))
    return Table(
        title="What moves the break-even",
        columns=("plans", "moved", "M tokens a day at -20%", "M tokens a day at +20%"),
        rows=tuple(rows),
    )


def _bill_table(plans: tuple[Plan, ...], tokens: Fraction) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for plan in plans:
        bill = plan.usd_per_month(tokens)
        per_million = float(bill / tokens * 1_000_000) if tokens else None
        used = plan.utilisation(tokens)
        apart = (plan.input_usd_per_million, plan.cached_usd_per_million, plan.output_usd_per_million)
        rows.append(
            (
                plan.name, plan.kind, float(bill), per_million,
                *(None if usd is None else float(usd * (1 - plan.discount_ratio)) for usd in apart),
                plan.replicas(tokens) or None, None if used is None else float(used),
            )
        )  # fmt: skip
    return Table(
        title=f"Bill at {_tokens(tokens)} a month",
        columns=(
            "plan",
            "kind",
            "USD a month",
            "USD per M tokens",
            "input",
            "cached",
            "output",
            "replicas",
            "utilisation",
        ),
        rows=tuple(rows),
        note="USD per M tokens is the bill over the volume; input, cached and output are apart where the plan prices "
        "them apart. Utilisation is the share of the paid replicas' capacity that is used: the rest is paid for too.",
    )


def _chart(plans: tuple[Plan, ...], pairs: list[PairAnswer], days: Fraction) -> Chart:
    crossings = sorted({change.tokens for pair in pairs for change in pair.crossovers if change.kind == "equal"})
    middle = [float(tokens / days) for tokens in crossings] or [1e6]
    low, high = min(middle) / 20, max(middle) * 10
    xs = [low * (high / low) ** (index / (POINTS - 1)) for index in range(POINTS)]
    series = tuple(
        Series(name=plan.name, x=tuple(xs), y=tuple(float(plan.usd_per_month(Fraction(x) * days)) for x in xs))
        for plan in plans
    )
    apart = list(middle[:1])
    apart.extend(after for before, after in pairwise(middle) if after > before * 1.5)
    marks = tuple(Mark(axis="x", at=at, text=_tokens(Fraction(at))) for at in apart[:6])
    return Chart(
        title="Monthly bill by volume",
        x_title="tokens per day",
        y_title="USD per month",
        series=series,
        marks=marks,
        x_log=True,
        y_log=True,
    )


def _millions(tokens: Fraction) -> float:
    return float(tokens / 1_000_000)


def _tokens(count: Fraction) -> str:
    value = float(count)
    for size, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= size:
            return f"{value / size:,.2f} {name} tokens".replace(".00 ", " ")
    return f"{value:,.0f} tokens"
