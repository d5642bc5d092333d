from collector.model.labels import from_mapping
from dashboard.changes import changes
from dashboard.source import Answer, Line
from dashboard.view import Window

WINDOW = Window(1000, 1060, 10)
NOTHING = {name: Answer() for name in ("up", "replicas", "info", "alerts", "started", "resets")}


def seen(**lines):
    answers = dict(NOTHING)
    for name, rows in lines.items():
        answers[name] = Answer(lines=tuple(Line(from_mapping(labels), values) for labels, values in rows))
    return [(one.time_s, one.kind, one.text) for one in changes(answers, WINDOW)]


def test_nothing_changed_where_nothing_changed():
    assert seen(up=[({"instance": "a"}, [1.0] * 7)], replicas=[({"pool": "p"}, [2.0] * 7)]) == []


def test_a_version_beside_another_is_a_deploy_and_the_first_is_none():
    old = ({"model_name": "m", "version": "v1"}, [1.0] * 4 + [None] * 3)
    new = ({"model_name": "m", "version": "v2"}, [None] * 4 + [1.0] * 3)
    assert seen(info=[new, old]) == [(1040, "deploy", "deploy v2 to m")]


def test_a_target_goes_down_and_comes_back():
    rows = [({"instance": "a:1"}, [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0])]
    assert seen(up=rows) == [(1040, "back", "a:1 came back"), (1020, "target", "a:1 went down")]


def test_replicas_and_restarts_are_told():
    found = seen(
        replicas=[({"pool": "p"}, [4.0] * 3 + [5.0] * 4)],
        started=[({"instance": "a:1"}, [100.0, 100.4, 100.0, 990.0, 990.0, 990.0, 990.0])],
    )
    assert found == [(1030, "scale", "p scaled 4 to 5 replicas"), (1030, "restart", "a:1 restarted")]


def test_an_instance_without_a_start_time_restarts_where_its_counters_fall():
    fell = [({"instance": "a:1"}, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]), ({"instance": "b:1"}, [0.0] * 3 + [2.0] * 4)]
    found = seen(started=[({"instance": "b:1"}, [100.0] * 7)], resets=fell)
    assert found == [(1020, "restart", "a:1 restarted (its counters began anew)")]


def test_an_alert_begins_to_fire_and_is_resolved_and_one_gap_is_no_change():
    labels = {"alertname": "Hot", "pool": "p"}
    rows = [(labels, [None, 1.0, None, 1.0, None, None, None])]
    assert seen(alerts=rows) == [(1040, "resolved", "Hot on p resolved"), (1010, "alert", "Hot on p began to fire")]


def test_an_alert_that_fires_all_along_is_no_change():
    assert seen(alerts=[({"alertname": "Hot"}, [1.0] * 7)]) == []
