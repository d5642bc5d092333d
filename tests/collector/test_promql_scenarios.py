"""Scenarios of our own in the format of Prometheus's scripts, one for each subject of the language."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPTS = importlib.util.spec_from_file_location(
    "test_promql_scripts", Path(__file__).with_name("test_promql_scripts.py")
)
assert SCRIPTS and SCRIPTS.loader
scripts = importlib.util.module_from_spec(SCRIPTS)
sys.modules["test_promql_scripts"] = scripts
SCRIPTS.loader.exec_module(scripts)

SCENARIOS = {
    "staleness": """
load 10s
  metric 0 1 stale 2

eval instant at 10s metric
  {__name__="metric"} 1

eval instant at 20s metric

eval instant at 25s count_over_time(metric[30s])
  {} 2

eval instant at 30s metric
  {__name__="metric"} 2

eval instant at 329s metric
  {__name__="metric"} 2

eval instant at 330s metric

eval range from 0s to 40s step 10s metric
  metric 0 1 _ 2 2
""",
    "subquery": """
load 10s
  metric 1 2 3 4 5 6 7 8 9 10 11 12 13

eval instant at 60s sum_over_time(metric[50s:10s])
  {} 25

eval instant at 65s sum_over_time(metric[50s:10s])
  {} 25

eval instant at 65s count_over_time(metric[50s:25s])
  {} 2

eval instant at 60s sum_over_time(metric[50s:10s] offset 10s)
  {} 20

eval instant at 100s sum_over_time(metric[50s:10s] @ 60)
  {} 25

eval instant at 100s sum_over_time((metric @ 60)[50s:10s])
  {} 35

eval instant at 120s max_over_time(rate(metric[20s])[1m:20s])
  {} 0.1

eval range from 60s to 80s step 10s sum_over_time(metric[20s:10s])
  {} 13 15 17

eval instant at 60s sum_over_time(metric[1s:10s])
  {} 7

eval instant at 61s sum_over_time(metric[1s:10s])
""",
    "at_modifier": """
load 10s
  metric{job="1"} 0+1x1000
  metric{job="2"} 0+2x1000

eval instant at 10s metric @ 100
  metric{job="1"} 10
  metric{job="2"} 20

eval instant at 10s metric @ 100 offset 50s
  metric{job="1"} 5
  metric{job="2"} 10

eval instant at 10s metric offset 50s @ 100
  metric{job="1"} 5
  metric{job="2"} 10

eval instant at 10s metric @ 100 offset -50s
  metric{job="1"} 15
  metric{job="2"} 30

eval instant at 10s metric @ -1

eval instant at 100s sum_over_time(metric{job="1"}[100s:1s] @ 100)
  {job="1"} 460

eval range from 10s to 30s step 10s metric{job="1"} @ start()
  metric{job="1"} 1 1 1

eval range from 10s to 30s step 10s metric{job="1"} @ end() - metric{job="1"}
  {job="1"} 2 1 0

eval range from 0s to 20s step 10s sum(metric @ 50) + sum(metric)
  {} 15 18 21

eval range from 0s to 20s step 10s timestamp(metric{job="1"} @ 50)
  {job="1"} 50 50 50

eval range from 0s to 20s step 10s timestamp(timestamp(metric{job="1"} @ 50))
  {job="1"} 0 10 20

eval range from 0s to 20s step 10s minute(metric{job="2"} @ 1500)
  {job="2"} 5 5 5

eval range from 0s to 20s step 10s rate(metric{job="1"}[100s] @ 200)
  {job="1"} 0.1 0.1 0.1

eval range from 0s to 20s step 10s predict_linear(metric{job="1"}[100s] @ 200, 10)
  {job="1"} 1 2 3
""",
    "duration expressions": """
load 10s
  metric 0+1x100

eval instant at 100s count_over_time(metric[10s + 20s])
  {} 3

eval instant at 100s count_over_time(metric[2 * 10s])
  {} 2

eval instant at 100s count_over_time(metric[(1m - 10s) / 5 * 2])
  {} 2

eval instant at 100s count_over_time(metric[2 ^ 2 * 10])
  {} 4

eval instant at 100s count_over_time(metric[max_of(10s, 30s)])
  {} 3

eval instant at 100s metric offset (10s * 2)
  metric 8

eval instant at 100s metric offset -(10s + 10s)
  metric 12

eval instant at 100s metric offset 10s + 10
  {} 19

eval instant at 100s metric offset -2^2
  {} 100

eval range from 100s to 140s step 20s count_over_time(metric[step()])
  {} 2 2 2

eval range from 100s to 140s step 20s count_over_time(metric[range()])
  {} 4 4 4

eval range from 100s to 140s step 20s count_over_time(metric[step() * 2:step() / 2])
  {} 4 4 4

eval range from 100s to 140s step 20s metric offset step()
  metric 8 10 12

eval range from 100s to 140s step 20s metric offset -min_of(step(), 10s)
  metric 11 13 15

eval instant at 100s count_over_time(metric[step()])
  expect fail msg: duration must be greater than 0

eval instant at 100s count_over_time(metric[10s - 20s])
  expect fail

eval instant at 100s count_over_time(metric[10s / 0])
  expect fail msg: division by zero
""",
    "anchored and smoothed": """
load 15s
  metric 1+1x4 9+1x4

eval instant at 5s increase(metric[1m])

eval instant at 20s increase(metric[1m] anchored)
  {} 1

eval instant at 1m15s increase(metric[1m] anchored)
  {} 7

eval instant at 1m15s increase(metric[1m] smoothed)
  {} 7

eval instant at 1m10s increase(metric[1m] smoothed)
  {} 6

eval instant at 1m30s rate(metric[1m] anchored)
  {} 0.11666666666666667

eval instant at 1m30s delta(metric[1m] smoothed)
  {} 7

eval instant at 1m10s increase(metric[1m] anchored)
  {} 4

eval instant at 1m10s changes(metric[30s] anchored)
  {} 2

eval instant at 1m10s metric smoothed
  metric 7.666666666666667

eval instant at 1m metric smoothed
  metric 5

eval instant at 4m metric smoothed
  metric 13

eval instant at 20s metric smoothed offset 10s
  metric 1.6666666666666667

eval instant at 10m increase(metric[1m] anchored)

eval instant at 10m increase(metric[1m] smoothed)

clear
load 10s
  resets 10 20 5 15 1 2

eval instant at 50s increase(resets[40s] anchored)
  {} 17

eval instant at 35s increase(resets[20s] smoothed)
  {} 13

eval instant at 50s resets(resets[1m] anchored)
  {} 2

eval instant at 50s increase(resets[40s:10s] anchored)
  expect fail

eval instant at 50s deriv(resets[40s] smoothed)
  expect fail msg: smoothed modifier can only be used with: delta, increase, rate - not with deriv
""",
    "info": """
load 5m
  metric{instance="a", job="1", label="value"} 0 1 2
  metric{instance="b", job="1", label="value"} 0 1 2
  metric_not_matching_target_info{instance="a", job="2", label="value"} 0 1 2
  metric_with_overlapping_label{instance="a", job="1", label="value", data="base"} 0 1 2
  target_info{instance="a", job="1", data="info", another_data="another info"} 1 1 1
  build_info{instance="a", job="1", build_data="build"} 1 1 1

eval range from 0m to 10m step 5m info(metric{instance="a"}, {data=~".+"})
  metric{data="info", instance="a", job="1", label="value"} 0 1 2

eval range from 0m to 10m step 5m info(metric{instance="a"})
  metric{data="info", instance="a", job="1", label="value", another_data="another info"} 0 1 2

eval instant at 5m info(metric)
  metric{data="info", instance="a", job="1", label="value", another_data="another info"} 1
  metric{instance="b", job="1", label="value"} 1

eval instant at 5m info(metric, {data="info"})
  metric{data="info", instance="a", job="1", label="value"} 1

eval instant at 5m info(metric_not_matching_target_info)
  metric_not_matching_target_info{instance="a", job="2", label="value"} 1

eval instant at 5m info(metric_with_overlapping_label)
  metric_with_overlapping_label{data="base", instance="a", job="1", label="value", another_data="another info"} 1

eval instant at 5m info(metric{instance="a"}, {__name__="build_info"})
  metric{instance="a", job="1", label="value", build_data="build"} 1

eval instant at 5m info(metric{instance="a"}, {__name__=~".+_info", build_data=~".+"})
  metric{instance="a", job="1", label="value", build_data="build"} 1

eval instant at 5m info(target_info)
  target_info{instance="a", job="1", data="info", another_data="another info"} 1

clear
load 5m
  metric{instance="a", job="1"} 0 1 2
  target_info{instance="a", job="1", data="old"} 1 1 _
  target_info{instance="a", job="1", data="new"} _ _ 1

eval range from 0m to 10m step 5m info(metric, {data=~".+"})
  metric{data="old", instance="a", job="1"} 0 1 _
  metric{data="new", instance="a", job="1"} _ _ 2

clear
load 5m
  metric{instance="a", job="1"} 0 1 2
  target_info{instance="a", job="1", data="one"} 1 1 1
  target_info{instance="a", job="1", data="two"} 1 1 1

eval instant at 5m info(metric)
  expect fail msg: found duplicate series for info metric
""",
    "fill": """
load 5m
  left{label="a"} 1
  left{label="b"} 2
  right{label="a"} 10
  right{label="c"} 30

eval instant at 0m left + fill(0) right
  {label="a"} 11
  {label="b"} 2
  {label="c"} 30

eval instant at 0m left + fill_left(5) right
  {label="a"} 11
  {label="c"} 35

eval instant at 0m left + fill_right(5) right
  {label="a"} 11
  {label="b"} 7

eval instant at 0m left - fill_left(-1) fill_right(1) right
  {label="a"} -9
  {label="b"} 1
  {label="c"} -31

eval instant at 0m left == fill_right(2) right
  left{label="b"} 2

eval instant at 0m left < bool fill(0) right
  {label="a"} 1
  {label="b"} 0
  {label="c"} 1

eval instant at 0m left or fill(0) right
  expect fail

eval instant at 0m left + fill(0) nothing
  {label="a"} 1
  {label="b"} 2
""",
    "limit": """
load 5m
  requests{group="x", n="1"} 1
  requests{group="x", n="2"} 2
  requests{group="y", n="3"} 3
  requests{group="y", n="4"} 4

eval instant at 0m count(limitk(1, requests))
  {} 1

eval instant at 0m count(limitk by (group) (1, requests))
  {} 2

eval instant at 0m count(limitk(100, requests) and requests)
  {} 4

eval instant at 0m limitk(0, requests)

eval instant at 0m limitk(-1, requests)

eval instant at 0m count(limit_ratio(0.5, requests) or limit_ratio(-0.5, requests))
  {} 4

eval instant at 0m limit_ratio(0.3, requests) and limit_ratio(-0.7, requests)

eval instant at 0m count(limit_ratio(1.1, requests) and requests)
  expect warn msg: PromQL warning: ratio value should be between -1 and 1, got 1.1, capping to 1 (1:19)
  {} 4

eval instant at 0m limit_ratio(0, requests)
""",
    "name dropping": """
load 5m
  metric_total{env="1"} 0 60 120
  another_metric_total{env="1"} 60 120 180

eval instant at 10m rate({env="1"}[10m])
  expect fail msg: vector cannot contain metrics with the same labelset

eval instant at 10m sum by (__name__) (metric_total)
  metric_total 120

eval instant at 10m sum by (__name__, env) (rate(metric_total[10m]))
  {env="1"} 0.2

eval instant at 10m sum(rate({env="1"}[10m]))
  {} 0.4

eval instant at 10m label_replace(rate({env="1"}[10m]), "__name__", "rate_$1", "__name__", "(.+)")
  rate_metric_total{env="1"} 0.2
  rate_another_metric_total{env="1"} 0.2

eval instant at 10m label_join(rate({env="1"}[10m]), "was", "", "__name__")
  {env="1", was="metric_total"} 0.2
  {env="1", was="another_metric_total"} 0.2

eval instant at 10m -metric_total
  {env="1"} -120

eval instant at 10m metric_total * 2
  {env="1"} 240

eval instant at 10m metric_total > 1
  metric_total{env="1"} 120

eval instant at 10m metric_total > bool 1
  {env="1"} 1

eval instant at 10m last_over_time(metric_total[10m])
  metric_total{env="1"} 120

eval instant at 10m last_over_time(abs(metric_total)[10m:5m])
  {env="1"} 120

eval instant at 10m abs(metric_total) or metric_total
  expect no_warn
  {env="1"} 120
""",
    "collision": """
load 5m
  one_total{a="1"} 0 1
  two_total{a="1"} 0 2

eval instant at 5m abs({a="1"})
  expect fail msg: vector cannot contain metrics with the same labelset

eval instant at 5m label_replace({a="1"}, "__name__", "same", "a", "1")
  expect fail msg: vector cannot contain metrics with the same labelset

eval instant at 5m {a="1"} * 2
  expect fail
""",
    "trigonometry": """
load 5m
  angle{l="x"} 10
  angle{l="y"} 20
  angle{l="nan"} NaN

eval instant at 0m sin(angle)
  {l="x"} -0.5440211108893699
  {l="y"} 0.9129452507276277
  {l="nan"} NaN

eval instant at 0m acos(angle - 9.9)
  {l="x"} 1.4706289056333368
  {l="y"} NaN
  {l="nan"} NaN

eval instant at 0m atanh(angle - 9.5)
  {l="x"} 0.5493061443340548
  {l="y"} NaN
  {l="nan"} NaN

eval instant at 0m rad(angle{l="x"})
  {l="x"} 0.17453292519943295

eval instant at 0m deg(angle{l="x"})
  {l="x"} 572.9577951308232

eval instant at 0m angle{l="x"} atan2 angle{l="x"}
  {l="x"} 0.7853981633974483

eval instant at 0m pi()
  3.141592653589793
""",
    "range queries": """
load 30s
  bar 0 1 10 100 1000

eval range from 0 to 2m step 1m sum_over_time(bar[30s])
  {} 0 10 1000

eval range from 0 to 2m step 45s bar
  bar 0 1 100

eval range from 0 to 1m30s step 1m bar
  bar 0 10

eval range from 60s to 60s step 10s bar
  bar 10

eval range from 0 to 1m step 1m time()
  {} 0 60

eval range from 0 to 1m step 30s bar > 5
  bar _ _ 10

eval range from -30s to 30s step 30s bar
  bar _ 0 1

eval range from 0 to 2m step 1m topk(1, {__name__=~"bar|baz"})
  bar 0 10 1000
""",
    "histograms": """
load 5m
  request_seconds_bucket{le="0.1"} 0 10
  request_seconds_bucket{le="0.2"} 0 20
  request_seconds_bucket{le="+Inf"} 0 40
  other_seconds_bucket{le="0.1"} 0 10
  other_seconds_bucket{le="+Inf"} 0 40
  falling_seconds_bucket{le="0.1"} 0 20
  falling_seconds_bucket{le="0.2"} 0 10
  falling_seconds_bucket{le="+Inf"} 0 40

eval instant at 5m histogram_quantile(0.25, request_seconds_bucket)
  {} 0.1

eval instant at 5m histogram_quantile(0.9, request_seconds_bucket)
  {} 0.2

eval instant at 5m histogram_quantiles(request_seconds_bucket, "q", 0.25, 0.375, 1)
  {q="0.25"} 0.1
  {q="0.375"} 0.15
  {q="1.0"} 0.2

eval instant at 5m histogram_quantiles(request_seconds_bucket, "q", -1)
  expect warn msg: PromQL warning: quantile value should be between 0 and 1, got -1 (1:50)
  {q="-1.0"} -Inf

eval instant at 5m histogram_fraction(0, 0.15, request_seconds_bucket)
  {} 0.375

eval instant at 5m histogram_fraction(0.05, 0.1, request_seconds_bucket)
  {} 0.125

eval instant at 5m histogram_fraction(0.1, 0.1, request_seconds_bucket)
  {} 0

eval instant at 5m histogram_fraction(-Inf, +Inf, request_seconds_bucket)
  {} 1

eval instant at 5m histogram_quantile(0.25, {__name__=~".*_seconds_bucket"})
  expect fail msg: vector cannot contain metrics with the same labelset

eval instant at 5m histogram_quantile(0.25, sum by (le) ({__name__=~"(other|request)_seconds_bucket"}))
  expect no_info
  {} 0.1

eval instant at 5m histogram_quantile(0.25, falling_seconds_bucket)
  expect info regex: needed to be fixed for monotonicity .* for metric name "falling_seconds_bucket" \\(1:26\\)
  {} 0.05
""",
}


@pytest.mark.parametrize("subject", SCENARIOS)
def test_a_scenario_ends_as_prometheus_3_has_it(subject: str, tmp_path: Path) -> None:
    script = tmp_path / "scenario.test"
    script.write_text(SCENARIOS[subject])
    agreeing, wrong = scripts.failures(script, scripts.engine_for(subject))
    assert not wrong, "\n".join(wrong)
    assert agreeing == SCENARIOS[subject].count("\neval ")
