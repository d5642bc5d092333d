from threading import Event

import pytest

from dashboard.errors import TwinError
from dashboard.twin import Twin
from dashboard.workers import Workers
from planner.slo import Slo


def test_work_is_done_and_its_failure_belongs_to_the_future():
    workers = Workers(2)
    assert workers.submit(lambda a, b: a + b, 1, b=2).result(30) == 3
    with pytest.raises(ZeroDivisionError):
        workers.submit(lambda: 1 / 0).result(30)
    workers.shutdown()


def test_a_job_that_hangs_does_not_hold_up_the_end():
    workers, hang, entered = Workers(1, patience_s=0.05), Event(), Event()
    workers.submit(lambda: entered.set() or hang.wait(60))
    entered.wait(30)
    workers.shutdown()
    assert not hang.is_set()
    hang.set()


def test_the_twins_process_tells_why_it_cannot_answer():
    twin = Twin("http://127.0.0.1:9")
    with pytest.raises(TwinError, match=r"127\.0\.0\.1:9"):
        twin.headroom(Slo(), 1000.0)
    twin.close()
    with pytest.raises(TwinError, match="closed"):
        twin.headroom(Slo(), 1000.0)
