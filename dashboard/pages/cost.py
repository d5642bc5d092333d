"""Cost: what the fleet spends, what a token comes to, what stands idle, and where other plans would cost less."""

from collections.abc import Sequence
from dataclasses import dataclass

from dash import dcc, html

from dashboard import quantity, queries, spending, theme
from dashboard.board import Ask, Board, Box, Plot, Questions, Scene, page
from dashboard.figures import chart, curve, series
from dashboard.figures.chart import Axis
from dashboard.figures.curve import Cross
from dashboard.parts import section
from dashboard.parts.icon import Node, hyphened
from dashboard.parts.panel import Drawn, Panel, empty, legend, solid, stale, texts
from dashboard.parts.tables import simple_table
from dashboard.plots import shares, why_empty
from dashboard.prices import Priced
from dashboard.pricing import HOURS_PER_MONTH, Offer, offer_of
from dashboard.queries import question
from dashboard.source import Question
from dashboard.spending import Flow
from dashboard.words import joined, say
from planner.catalog import Api
from planner.room.headroom import PoolHeadroom

TENANT_PROMPT, TENANT_OUTPUT = "loadline_tenant_prompt_tokens_total", "loadline_tenant_generation_tokens_total"
DOLLARS = Axis(suffix="", hover="$%{y:.3~g}")
BOX_HEIGHT = 240


@dataclass(frozen=True, slots=True)
class PoolCost:
    """One pool now: its replicas, price, tokens per second and the share of time that it computes. None: not known."""

    pool: str
    replicas: float | None
    priced: Priced | None
    flow: Flow | None
    busy: float | None

    @property
    def usd_per_hour(self) -> float | None:
        """What it spends."""
        return None if self.priced is None or self.replicas is None else self.priced.usd_per_hour * self.replicas


def ask_now(ask: Ask) -> Questions:
    """Replicas, tokens and busy share by pool."""
    speak, window, where = ask.vocabulary, ask.rate_window, ask.where
    return {
        "replicas": question(lambda: speak.replicas(where=where)),
        "prompt": question(lambda: speak.rate("prompt_tokens", window, where=where)),
        "cached": question(lambda: speak.rate("cached_prompt_tokens", window, where=where)),
        "output": question(lambda: speak.rate("generated_tokens", window, where=where)),
        "busy": question(lambda: busy(ask)),
    }


def busy(ask: Ask) -> str:
    """Share of their time that the replicas of a pool compute: seconds in steps, of all seconds."""
    speak, window, where = ask.vocabulary, ask.rate_window, ask.where
    steps = f"({speak.mean('step_time', window, where=where)}) * ({speak.rate('step_time', window, where=where)})"
    return f"{steps} / ({speak.replicas(where=where)})"


def idle(ask: Ask) -> str:
    """Replicas by pool that serve no request."""
    one_each = ask.vocabulary.gauge("running_requests", by=("pool", "instance"), where=ask.where)
    return f"sum by (pool) (({one_each}) == bool 0)"


def pools_now(scene: Scene) -> list[PoolCost]:
    """Every pool as it ends the range, dearest first."""
    usd = typed(scene)
    names = ("replicas", "prompt", "cached", "output", "busy")
    rows = {name: _rows(scene, name) for name in names}

    def last(name: str, pool: str) -> float | None:
        return queries.last(rows[name].get(pool, []))

    found = [
        PoolCost(
            pool, last("replicas", pool), scene.site.services.prices.replica(pool, usd),
            spending.flow_of(last("prompt", pool), last("cached", pool), last("output", pool)), last("busy", pool),
        )
        for pool in rows["replicas"]
    ]  # fmt: skip
    return sorted(found, key=lambda one: (-(one.usd_per_hour or 0), one.pool))


def typed(scene: Scene) -> float | None:
    """The price of a replica that the address gives, if it is one."""
    text = scene.refresh.view.own.get("usd", "")
    try:
        value = float(text) if text else None
    except ValueError:
        return None
    return value if value is not None and 0 <= value < 1e6 else None


def by_pool(scene: Scene) -> tuple[Node, Node]:
    """The table of pools and the sum."""
    found = pools_now(scene)
    if not found:
        return section.none(why_empty(scene, scene.answers["replicas"])), None
    prices = scene.site.services.prices
    api = prices.api(scene.refresh.view.own.get("api"))
    rows = [_pool_row(one, api) for one in found]
    known = [one.usd_per_hour for one in found if one.usd_per_hour is not None]
    unpriced = [one.pool for one in found if one.priced is None]
    headings = ("Pool", "Replicas", "$ per replica hour", "$ per hour", "a day", "a month", "Busy", "$ per 1M tokens",
                "input", "cached", "output", say("{api}, blended", api=api.name), "Price from")  # fmt: skip
    table = simple_table("Pools", headings, rows, range(1, 12))
    total = sum(known)
    day, month = quantity.money(total * 24), quantity.money(total * HOURS_PER_MONTH)
    spent = say(" an hour, {day} a day, {month} a month of 30 days", day=day, month=month)
    sum_of = html.P([html.Span(quantity.money(total), className="money"), spent], className="none")
    unknown = say(
        "What a replica costs is not known for {pools}: type it above, or serve with --prices FILE.",
        pools=joined(unpriced),
    )
    lacks = section.none(unknown) if unpriced else None
    note = section.none(
        say(
            "Input, cached and output tokens are priced in the proportions of {api}'s list (catalogue of {date}), so "
            "that together they come to what is spent.",
            api=api.name, date=prices.catalog.as_of,
        )
    )  # fmt: skip
    return html.Div([sum_of if known else None, table, lacks, note]), "at the end of the range"


def _pool_row(one: PoolCost, api: Api) -> list[Node]:
    usd = one.usd_per_hour
    price = spending.effective(usd, one.flow, api) if usd is not None and one.flow is not None else None
    flows = one.flow if one.flow is not None and one.flow.total > 0 else None
    listed = flows.at_list(api) / flows.total * spending.MILLION if flows is not None else None
    effective = [getattr(price, name) if price else None for name in ("blended", "input", "cached", "output")]
    return [
        html.Span(one.pool, className="tb-n"), quantity.count(one.replicas),
        quantity.money(one.priced.usd_per_hour if one.priced else None), quantity.money(usd),
        *(quantity.money(None if usd is None else usd * hours) for hours in (24, HOURS_PER_MONTH)),
        quantity.percent(one.busy), *map(quantity.money, effective),
        quantity.money(listed), one.priced.source if one.priced else quantity.ABSENT,
    ]  # fmt: skip


def _lines(panel: Panel, scene: Scene, rows: spending.Rows, names: Sequence[str], sub: Node) -> Drawn:
    """Lines in dollars by pool, or why there are none: no replica, no price, or what else ``names`` lack."""
    asked = [scene.answers[name] for name in names]
    if not any(value is not None for row in rows.values() for value in row):
        lacking = next((one for one in asked if not one.lines), None)
        why = why_empty(scene, lacking) if lacking is not None else "no price is known: type it above, or use --prices"
        return empty(panel, scene.refresh.clock, asked, why)
    kept = series.highest(rows)
    figure = series.lines(kept, scene.refresh.clock, scene.palette, DOLLARS, height=panel.height, marks=scene.marks)
    figure["layout"]["yaxis"]["tickprefix"] = "$"
    table = legend(kept, solid({name: scene.palette.get(name, theme.OTHER) for name in kept}), quantity.money)
    return Drawn(figure, sub, table, stale(asked, scene.refresh.now_s), texts(asked))


def _rows(scene: Scene, name: str) -> dict[str, list[float | None]]:
    return queries.by_labels(scene.answers[name], ("pool",))


def draw_spend(panel: Panel, scene: Scene) -> Drawn:
    """$ per hour by pool, and what that came to in the range."""
    spent = spending.spend(_rows(scene, "replicas"), scene.site.services.prices, typed(scene))
    total = sum(spending.hours(row, scene.refresh.window.step_s) for row in spent.values())
    return _lines(panel, scene, spent, ("replicas",), say("{usd} in this range", usd=quantity.money(total)))


def draw_blended(panel: Panel, scene: Scene) -> Drawn:
    """$ per million tokens by pool."""
    spent = spending.spend(_rows(scene, "replicas"), scene.site.services.prices, typed(scene))
    rows = spending.blended(spent, _rows(scene, "prompt"), _rows(scene, "output"))
    return _lines(panel, scene, rows, ("replicas", "prompt", "output"), "input, cached and output together")


def draw_idle(panel: Panel, scene: Scene) -> Drawn:
    """Replicas without a request by pool, and the GPU hours that they were."""
    answer, rows = scene.answers["main"], _rows(scene, "main")
    prices, usd = scene.site.services.prices, typed(scene)
    if not any(value is not None for row in rows.values() for value in row):
        return empty(panel, scene.refresh.clock, [answer], why_empty(scene, answer))
    gpu_hours, wasted = 0.0, 0.0
    for pool, row in rows.items():
        stood, priced = spending.hours(row, scene.refresh.window.step_s), prices.replica(pool, usd)
        gpu_hours += stood * (priced.gpus if priced is not None else 1)
        wasted += stood * (priced.usd_per_hour if priced is not None else 0)
    figure = series.lines(series.highest(rows), scene.refresh.clock, scene.palette, chart.PLAIN, height=panel.height,
                          marks=scene.marks, floor_top=1)  # fmt: skip
    head: str = say("{hours} idle GPU hours in this range", hours=quantity.count(round(gpu_hours, 2)))
    if wasted:
        head = joined((head, quantity.money(wasted)))
    palette = {name: scene.palette.get(name, theme.OTHER) for name in rows}
    table = legend(series.highest(rows), solid(palette), quantity.count)
    return Drawn(figure, head, table, stale([answer], scene.refresh.now_s), texts([answer]))


def ask_tenants(ask: Ask) -> Questions:
    """Tokens by tenant, where the engines tell them."""
    if TENANT_OUTPUT not in ask.site.source.names():
        return {}
    return {
        "prompt": Question(f"sum by (tenant) (rate({TENANT_PROMPT}[{ask.rate_window}]))"),
        "output": Question(f"sum by (tenant) (rate({TENANT_OUTPUT}[{ask.rate_window}]))"),
        "replicas": question(lambda: ask.vocabulary.replicas(where=ask.where)),
    }


def by_tenant(scene: Scene) -> tuple[Node, Node]:
    """Each tenant's tokens and what they come to at the API's proportions of the fleet's spend."""
    if not scene.answers:
        return section.none(say("Tokens by tenant are not exposed: {metric} is not there.", metric=TENANT_OUTPUT)), None
    rows = {name: queries.by_labels(scene.answers[name], ("tenant",)) for name in ("prompt", "output")}
    api = scene.site.services.prices.api(scene.refresh.view.own.get("api"))
    hours = {name: {tenant: spending.hours(row, scene.refresh.window.step_s) * 3600 for tenant, row in found.items()}
             for name, found in rows.items()}  # fmt: skip
    worth = {
        tenant: hours["prompt"].get(tenant, 0.0) * api.input + output * api.output
        for tenant, output in hours["output"].items()
    }
    total = sum(worth.values())
    if not total:
        return section.none("No tenant's request ended in this range."), None
    spent = spending.spend(_rows(scene, "replicas"), scene.site.services.prices, typed(scene))
    usd = sum(spending.hours(row, scene.refresh.window.step_s) for row in spent.values()) if spent else None
    body = [
        [tenant, quantity.count(hours["prompt"].get(tenant, 0.0)), quantity.count(hours["output"][tenant]),
         quantity.percent(share, 1), quantity.money(None if usd is None else usd * share)]
        for tenant, share in sorted(((one, worth[one] / total) for one in worth), key=lambda pair: -pair[1])
    ]  # fmt: skip
    headings = ("Tenant", "Prompt tokens", "Output tokens", "Share of the cost", "Cost")
    table = simple_table("Tenants", headings, body, (1, 2, 3, 4))
    note = say("weighed as {api} weighs input and output", api=api.name)
    return table, note


def ask_even(ask: Ask) -> Questions:
    """Mean lengths of requests by pool, besides what the table asks."""
    speak, window, where = ask.vocabulary, ask.rate_window, ask.where
    return {
        **ask_now(ask),
        "prompts": question(lambda: speak.mean("prompt_length", window, ("pool",), where)),
        "outputs": question(lambda: speak.mean("output_length", window, ("pool",), where)),
    }


def even(scene: Scene) -> tuple[Node, Node]:
    """Bills of own replicas and an API against volume, or of the price list's plans, and what moves the crossing."""
    found = [one for one in pools_now(scene) if one.flow is not None and one.flow.total > 0]
    prices = scene.site.services.prices
    if prices.own is not None and prices.own.plan and len(prices.own.plan) > 1:
        volume = sum(one.flow.total for one in found if one.flow is not None) * 86_400
        answer = spending.break_evens(prices.own.plan, volume, prices.own.days_per_month)
        return _even_charts(answer, volume), say("plans of the price list of {date}", date=prices.own.as_of)
    if not found:
        return section.none("No tokens flow: there is nothing to compare."), None
    one = found[0]
    offer = offer_of(scene.refresh.view.own, one.pool, prices)
    if isinstance(offer, str):
        return section.none(offer), None
    return _derived(one, offer, scene)


def _derived(one: PoolCost, offer: Offer, scene: Scene) -> tuple[Node, Node]:
    lengths = [queries.last(_rows(scene, name).get(one.pool, [])) for name in ("prompts", "outputs")]
    prompt, output = lengths
    if one.flow is None or not prompt or not output or not one.replicas:
        return section.none("Lengths of requests are not exposed: there is nothing to compare."), None
    pools: tuple[PoolHeadroom, ...] = scene.site.source.headroom(scene.site.slo, scene.refresh.window).value or ()
    line = next((pool.load_line_req_per_s for pool in pools if pool.pool == one.pool), None)
    now = one.flow.total / (prompt + output)
    carried = (line or now) / one.replicas
    cached = one.flow.cached / max(one.flow.cached + one.flow.computed, 1e-9)
    volume = one.flow.total * 86_400
    answer = spending.break_evens(spending.derived_plans(offer, carried, prompt, output, cached), volume)
    basis = "its load line" if line else "its present load: there is no load line yet"
    note = section.none(
        say(
            "A replica of {pool} is taken to carry {rate}, {basis}; {source}; {api} at list prices of {date}. A hybrid "
            "plan is drawn where the price list states one.",
            pool=one.pool, rate=quantity.per_second(carried), basis=basis, source=offer.source, api=offer.api.name,
            date=offer.as_of,
        )
    )  # fmt: skip
    return html.Div([_even_charts(answer, volume), note]), say("{a} against {b}", a=one.pool, b=offer.api.name)


def _even_charts(answer: spending.BreakEven, today: float) -> Node:
    crosses = [
        Cross(tokens, say("{volume}: {what}", volume=quantity.count(tokens), what=what), theme.INK, "3px 3px")
        for tokens, what in answer.crossings
    ]
    if today > 0:
        crosses.append(Cross(today, say("now {volume} a day", volume=quantity.count(today)), theme.BLUE))
    figure = curve.bills(answer.tokens_per_day, answer.bills, height=BOX_HEIGHT, crosses=crosses)
    colors = {name: theme.SERIES[index % len(theme.SERIES)] for index, name in enumerate(answer.bills)}
    keys = [html.Span([html.I(style={"background": color}), name]) for name, color in colors.items()]
    parts: list[Node] = [
        html.Div(keys, className="phk none"), _graph(figure, "Monthly bill by tokens a day"),
        html.Ul([html.Li(one) for one in answer.never], className="says nt") if answer.never else None,
    ]  # fmt: skip
    if answer.middle is not None and answer.swings:
        title = say("What moves the break-even of {plans}: each figure 20 % lower and higher", plans=answer.pair)
        height = 60 + 36 * len(answer.swings)
        moved = curve.tornado(answer.swings, answer.middle, height=height)
        rows = [[what, quantity.count(low), quantity.count(high)] for what, low, high in answer.swings]
        parts += [html.H3(title, className="none"), _graph(moved, title),
                  simple_table("Tornado", ("Figure", "at -20 %", "at +20 %"), rows, (1, 2))]  # fmt: skip
    return html.Div(parts)


def _graph(figure: chart.Figure, label: str) -> Node:
    height = figure["layout"]["height"]
    drawn = dcc.Graph(figure=figure, config=chart.CONFIG, style={"height": height})
    return html.Div(drawn, className="p-g", role="img", **hyphened(aria_label=label))


def api_control(scene: Scene) -> tuple[Node, Node]:
    """The APIs of the catalogue, and when its prices were those of their sources."""
    prices = scene.site.services.prices
    listed = say("catalogue of {date}", date=prices.catalog.as_of)
    own = say("price list of {date}", date=prices.own.as_of) if prices.own is not None else "no price list (--prices)"
    usd = section.field("A replica, $ an hour", section.number("usd", least=0, hint="as listed"))
    return html.Div([usd, section.api_choice(prices)], className="fm"), say("{a}; {b}", a=listed, b=own)


def _asked_idle(ask: Ask) -> Questions:
    return {"main": question(lambda: idle(ask))}


BOARD = Board(
    "co",
    "Cost",
    (
        Box("co-prices", "Prices", api_control),
        Box("co-pools", "Pools", by_pool, ask=ask_now),
        Plot(Panel("co-spend", "Spend", "$/h", span=6), ask_now, draw_spend),
        Plot(Panel("co-token", "Effective price", "$ per 1M tokens", span=6), ask_now, draw_blended),
        shares(Panel("co-busy", "Busy", "%", span=6), busy, sub="share of time that replicas compute"),
        Plot(Panel("co-idle", "Idle replicas", span=6), _asked_idle, draw_idle),
        Box("co-even", "Break-even", even, span=6, ask=ask_even),
        Box("co-tenants", "Tenants", by_tenant, span=6, ask=ask_tenants),
    ),
)

PAGE = page(BOARD, path="/cost", icon="coin", key="m")
