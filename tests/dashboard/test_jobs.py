import json
import sys
from collections.abc import Callable

import pytest

from dashboard.errors import JobRefused
from dashboard.jobs import MOST_WAITING, Jobs, key_of

CHILD = """
import json, sys, time
asked = json.load(sys.stdin)
print(json.dumps({"progress": [1, 2, "half"]}), flush=True)
if asked.get("fail"):
    sys.exit("nothing to compute")
if asked.get("wait"):
    time.sleep(600)
print(json.dumps({"result": {"twice": 2 * asked["number"]}}), flush=True)
"""


@pytest.fixture
def jobs():
    made = Jobs((sys.executable, "-c", CHILD))
    yield made
    made.close()


def until(jobs: Jobs, key: str, holds: Callable):
    with jobs._changed:
        while not holds(job := jobs._jobs[key]):
            jobs._changed.wait(0.02)
        return job


def test_a_job_tells_its_progress_and_its_result(jobs):
    assert jobs.start("a", {"number": 21}).state == "waiting"
    done = until(jobs, "a", lambda job: not job.going)
    assert (done.state, done.result, done.done, done.total, done.words) == ("done", {"twice": 42}, 1, 2, "half")
    assert jobs.start("a", {"number": 21}) == done


def test_a_job_that_fails_says_its_last_words_and_may_be_tried_again(jobs):
    jobs.start("a", {"fail": True})
    assert until(jobs, "a", lambda job: not job.going).error == "nothing to compute"
    jobs.start("a", {"number": 1})
    assert until(jobs, "a", lambda job: job.state == "done").result == {"twice": 2}


def test_a_cancelled_job_ends_and_the_next_runs(jobs):
    jobs.start("a", {"wait": True})
    until(jobs, "a", lambda job: job.words == "half")
    jobs.start("b", {"number": 3})
    assert jobs.get("b").state == "waiting"
    assert jobs.cancel("a").state == "cancelled"
    assert until(jobs, "b", lambda job: not job.going).result == {"twice": 6}
    assert jobs.get("a").state == "cancelled"


def test_no_more_than_a_few_wait(jobs):
    jobs.start("running", {"wait": True})
    until(jobs, "running", lambda job: job.state == "running")
    for number in range(MOST_WAITING):
        jobs.start(f"{number}", {"number": number})
    with pytest.raises(JobRefused, match="wait already"):
        jobs.start("more", {"number": 0})
    jobs.cancel("0")
    assert jobs.start("more", {"number": 0}).state == "waiting"


def test_a_question_names_its_job_whatever_the_order_of_its_fields():
    assert key_of({"a": 1, "b": {"c": 2}}) == key_of(json.loads('{"b": {"c": 2}, "a": 1}'))
    assert key_of({"a": 1}) != key_of({"a": 2})
