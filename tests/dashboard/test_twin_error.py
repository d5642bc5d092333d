"""What ``plan drift`` wrote back stands on the page, by pool; where it wrote nothing there is no table."""

import httpx

from collector.client import Client
from dashboard.parts.twin_error import twin_errors
from dashboard.source import Source

TOLD = {
    "loadline_twin_drift": {"chat": 1.0, "code": 0.0},
    "loadline_twin_error_ratio": {"chat": -0.2, "code": 0.012},
    "loadline_twin_recalibrated_error_ratio": {"chat": 0.004},
    "loadline_twin_ttft_error_ratio": {"chat": -0.31},
}


def source(told):
    def answer(request):
        asked = httpx.QueryParams(request.content.decode() or request.url.query.decode())["query"]
        (values,) = [pools for metric, pools in told.items() if f"{metric}[" in asked] or [{}]
        found = [{"metric": {"pool": pool}, "value": [100, str(value)]} for pool, value in values.items()]
        return httpx.Response(200, json={"status": "success", "data": {"resultType": "vector", "result": found}})

    return Source(Client("http://source", transport=httpx.MockTransport(answer)), clock=lambda: 100.0)


def test_the_error_before_and_after_calibrating_anew_is_shown_by_pool(read):
    held = source(TOLD)
    said = read(twin_errors(held, 100).to_plotly_json())
    held.close()
    for text in ("chat", "-20.0 %", "0.4 %", "-31.0 %", "drifted", "code", "1.2 %", "as calibrated"):
        assert text in said
    assert said.index("-20.0 %") < said.index("0.4 %") < said.index("-31.0 %")


def test_where_nobody_looked_for_drift_there_is_no_table():
    held = source({})
    assert twin_errors(held, 100) is None
    held.close()
