"""The gateway's decisions without sockets: limits, breaker, router, cache, what is read of bodies and pages."""

from collections import Counter
from contextlib import suppress

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe_engine.gateway.asked import read_asked
from probe_engine.gateway.breaker import Breaker, BreakerRules
from probe_engine.gateway.cache import AnswerCache
from probe_engine.gateway.day_window import SLOT_S, DayWindow
from probe_engine.gateway.errors import Refused, SettingsError
from probe_engine.gateway.exposition import Observed, read
from probe_engine.gateway.leaky_bucket import LeakyBucket
from probe_engine.gateway.limits import Limiter
from probe_engine.gateway.ring import Ring, hash64
from probe_engine.gateway.router import Candidate, LeastLoad, PrefixHash, RoundRobin
from probe_engine.gateway.settings import GatewaySettings, Limits, Upstream, parse_upstream, read_config
from probe_engine.gateway.token_bucket import TokenBucket
from probe_engine.gateway.usage import AnswerUsage

MOMENTS = st.lists(st.tuples(st.floats(0, 20), st.integers(1, 120)), min_size=1, max_size=60)


def refusal(limiter: Limiter, *, user: str = "u", model: str = "m", tokens: int = 1, at: float = 0.0) -> Refused:
    with pytest.raises(Refused) as caught:
        limiter.admit(user, model, tokens, at)
    return caught.value


@given(MOMENTS, st.integers(1, 50), st.integers(1, 100))
def test_a_token_bucket_never_gives_more_than_its_rate(moments, rate, capacity):
    bucket, now, taken = TokenBucket(rate, capacity, 0.0), 0.0, []
    for gap, amount in moments:
        now += gap
        if bucket.wait_s(amount, now) == 0:
            bucket.take(amount, now)
            taken.append((now, amount))
    for at, (start, _) in enumerate(taken):
        total = 0
        for end, amount in taken[at:]:
            total += amount
            assert total <= capacity + rate * (end - start) + 1e-6


@given(MOMENTS, st.integers(1, 50), st.integers(1, 100))
def test_waiting_as_long_as_the_bucket_says_is_enough(moments, rate, capacity):
    bucket, now = TokenBucket(rate, capacity, 0.0), 0.0
    for gap, amount in moments:
        now += gap
        wait_s = bucket.wait_s(amount, now)
        if wait_s is None:
            assert amount > capacity
            continue
        now += wait_s
        assert bucket.wait_s(amount, now) <= 1e-6
        bucket.take(amount, now)


@given(MOMENTS, st.integers(1, 50), st.integers(1, 100))
def test_a_leaky_bucket_lets_through_its_rate_and_one_request(moments, rate, depth):
    bucket, now, poured = LeakyBucket(rate, depth, 0.0), 0.0, []
    for gap, amount in moments:
        now += gap
        if bucket.wait_s(amount, now) == 0:
            bucket.pour(amount, now)
            poured.append((now, amount))
    for at, (start, _) in enumerate(poured):
        total = 0
        for end, amount in poured[at:]:
            total += amount
            assert total <= depth + rate * (end - start) + max(size for _, size in poured) + 1e-6


def test_a_request_larger_than_the_leaky_bucket_goes_when_it_is_empty():
    bucket = LeakyBucket(10.0, 50.0, 0.0)
    assert bucket.wait_s(80, 0.0) == 0
    bucket.pour(80, 0.0)
    assert bucket.wait_s(1, 0.0) == pytest.approx(3.1)


@given(st.lists(st.tuples(st.floats(0, 30_000), st.integers(1, 60)), max_size=60))
def test_a_day_never_holds_more_than_its_limit(moments):
    window, now, taken = DayWindow(), 0.0, []
    for gap, amount in moments:
        now += gap
        if window.wait_s(amount, 100, now) == 0:
            window.add(amount, now)
            taken.append((now, amount))
    for start, _ in taken:  # a window of 23 hours lies inside the slots whatever the minute
        assert sum(amount for at, amount in taken if start <= at <= start + 23 * SLOT_S) <= 100


def test_a_day_says_when_there_is_room_again():
    window = DayWindow()
    window.add(90, 1800.0)
    assert window.wait_s(20, 100, 7200.0) == 24 * SLOT_S - 7200.0
    assert window.wait_s(101, 100, 7200.0) is None


def test_a_users_tokens_are_limited_and_the_answer_says_when_to_return():
    limiter = Limiter(Limits(user_tokens_per_min=600), 0.0)
    limiter.admit("u", "m", 500, 0.0)
    refused = refusal(limiter, tokens=200)
    assert (refused.status, refused.reason, refused.retry_after_s) == (429, "user_tokens_per_min", 10.0)
    limiter.admit("other", "m", 200, 0.0)
    limiter.admit("u", "m", 200, 10.0)


def test_what_was_reserved_and_not_used_is_given_back():
    limiter = Limiter(Limits(user_tokens_per_min=600, user_tokens_per_day=1000, tokens_per_s=1000), 0.0)
    grant = limiter.admit("u", "m", 600, 0.0)
    limiter.settle(grant, 100, 0.0)
    assert limiter.headers("u", 0.0)["x-ratelimit-remaining-tokens"] == "500"
    limiter.admit("u", "m", 500, 0.0)


def test_what_was_used_beyond_the_reservation_is_owed():
    limiter = Limiter(Limits(user_tokens_per_min=60), 0.0)
    limiter.settle(limiter.admit("u", "m", 10, 0.0), 90, 0.0)
    assert limiter.headers("u", 0.0)["x-ratelimit-remaining-tokens"] == "0"
    assert refusal(limiter, tokens=1).retry_after_s == pytest.approx(31.0)


def test_a_refused_request_takes_from_no_limit():
    limiter = Limiter(Limits(user_requests_per_min=10, user_tokens_per_min=600, user_tokens_per_day=100), 0.0)
    refusal(limiter, tokens=101)
    assert limiter.headers("u", 0.0)["x-ratelimit-remaining-requests"] == "10"
    assert limiter.headers("u", 0.0)["x-ratelimit-remaining-tokens"] == "600"


def test_a_request_that_can_never_fit_gets_no_time_to_return():
    refused = refusal(Limiter(Limits(user_tokens_per_min=60), 0.0), tokens=61)
    assert refused.retry_after_s is None
    assert "can never be served" in str(refused)


def test_a_model_serves_only_so_many_at_once():
    limiter = Limiter(Limits(model_concurrency=1), 0.0)
    grant = limiter.admit("u", "m", 1, 0.0)
    assert refusal(limiter, user="other").reason == "model_concurrency"
    limiter.admit("u", "another", 1, 0.0)
    limiter.settle(grant, 1, 0.0)
    limiter.admit("u", "m", 1, 0.0)


def test_all_together_are_held_to_the_global_rate():
    limiter = Limiter(Limits(tokens_per_s=10, burst_s=10), 0.0)
    limiter.admit("a", "m", 100, 0.0)
    assert refusal(limiter, user="b", tokens=10).reason == "tokens_per_s"
    limiter.admit("b", "m", 10, 1.0)


def test_tightened_limits_hold_at_once_and_forget_no_use():
    limiter = Limiter(Limits(user_tokens_per_min=600), 0.0)
    limiter.admit("u", "m", 100, 0.0)
    limiter.change(Limits(user_tokens_per_min=60), 0.0)
    assert limiter.headers("u", 0.0)["x-ratelimit-limit-tokens"] == "60"
    limiter.admit("u", "m", 60, 0.0)
    assert refusal(limiter, tokens=30).retry_after_s == 30.0


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 20), st.booleans()), max_size=80), st.integers(1, 5))
def test_a_models_concurrency_is_never_passed_and_ends_at_nothing(steps, most):
    limiter = Limiter(Limits(model_concurrency=most, user_tokens_per_min=100), 0.0)
    grants, now = [], 0.0
    for tokens, used, settle in steps:
        now += 1.0
        if settle and grants:
            limiter.settle(grants.pop(), used, now)
            continue
        with suppress(Refused):
            grants.append(limiter.admit("u", "m", tokens, now))
        assert limiter.running().get("m", 0) == len(grants) <= most
    for grant in grants:
        limiter.settle(grant, 0, now)
    assert limiter.running() == {}


def failing(breaker: Breaker, count: int, *, of: int, at: float) -> None:
    for number in range(of):
        breaker.answered(at, well=number >= count, latency_s=0.1)


def test_more_errors_than_half_open_the_breaker():
    breaker = Breaker(BreakerRules())
    failing(breaker, 5, of=10, at=0.0)
    assert breaker.state(0.0) == "closed"
    failing(breaker, 3, of=3, at=9.0)
    assert (breaker.state(9.0), breaker.opened) == ("open", "errors")
    assert not breaker.allows(9.0)
    assert breaker.retry_after_s(9.0) == 30.0


def test_old_errors_do_not_count():
    breaker = Breaker(BreakerRules())
    for number in range(9):
        breaker.answered(float(number) / 10, well=False, latency_s=0.1)
    failing(breaker, 0, of=12, at=11.0)
    assert breaker.state(11.0) == "closed"


def test_a_few_errors_prove_nothing():
    breaker = Breaker(BreakerRules())
    failing(breaker, 9, of=9, at=0.0)
    assert breaker.state(0.0) == "closed"


def test_a_slow_p99_opens_the_breaker_after_a_minute_of_it():
    breaker = Breaker(BreakerRules())
    for at in range(60):
        breaker.answered(float(at), well=True, latency_s=12.0 if at % 2 else 1.0)
        assert breaker.state(float(at)) == "closed"
    breaker.answered(61.0, well=True, latency_s=12.0)
    assert (breaker.state(61.0), breaker.opened) == ("open", "latency")


def test_a_slow_spell_that_ends_is_forgiven():
    breaker = Breaker(BreakerRules())
    for at in range(120):
        breaker.answered(float(at), well=True, latency_s=12.0 if at % 30 == 0 else 1.0)
    assert breaker.state(120.0) == "closed"


@pytest.mark.parametrize(
    ("seen", "trigger"),
    [({"waiting": 1001, "gpu_memory_ratio": None}, "queue"), ({"waiting": 0, "gpu_memory_ratio": 0.96}, "gpu_memory")],
)
def test_what_a_probe_sees_opens_the_breaker(seen, trigger):
    breaker = Breaker(BreakerRules())
    breaker.observed(0.0, waiting=1000, gpu_memory_ratio=0.95)
    assert breaker.state(0.0) == "closed"
    breaker.observed(0.0, **seen)
    assert (breaker.state(0.0), breaker.opened) == ("open", trigger)


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker(BreakerRules())
    failing(breaker, 10, of=10, at=at)
    return breaker


def test_after_its_time_it_tries_a_few_and_closes():
    breaker = opened()
    assert breaker.state(29.9) == "open"
    for _ in range(3):
        assert breaker.allows(30.0)
        breaker.sent(30.0)
    assert (breaker.state(30.0), breaker.allows(30.0)) == ("half_open", False)
    for _ in range(3):
        breaker.answered(31.0, well=True, latency_s=0.1)
    assert breaker.state(31.0) == "closed"


def test_one_bad_trial_opens_it_again():
    breaker = opened()
    breaker.sent(30.0)
    breaker.answered(31.0, well=False, latency_s=0.1)
    assert (breaker.state(31.0), breaker.opened, breaker.state(61.0)) == ("open", "trial", "half_open")


def test_a_trial_whose_client_left_may_be_tried_again():
    breaker = opened()
    for _ in range(3):
        breaker.sent(30.0)
    breaker.unsent(30.5)
    assert breaker.allows(30.5)


def test_the_operator_opens_until_the_operator_closes():
    breaker = Breaker(BreakerRules())
    breaker.force("open")
    assert breaker.state(1e9) == "open"
    breaker.force("closed")
    assert breaker.state(1e9) == "closed"


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("answer"), st.booleans(), st.floats(0, 20)),
        st.tuples(st.just("sent"), st.none(), st.none()),
        st.tuples(st.just("unsent"), st.none(), st.none()),
        st.tuples(st.just("probe"), st.integers(0, 2000), st.floats(0, 1)),
    ),
    max_size=120,
)


@settings(max_examples=150)
@given(STEPS, st.lists(st.floats(0, 15), min_size=120, max_size=120))
def test_a_breaker_only_ever_moves_as_drawn(steps, gaps):
    rules = BreakerRules(least_requests=3)
    breaker, now, before = Breaker(rules), 0.0, "closed"
    moves = {("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("half_open", "closed")}
    for (kind, one, two), gap in zip(steps, gaps, strict=False):
        now += gap
        state = breaker.state(now)
        assert state == before or (before, state) == ("open", "half_open")
        before = state
        if kind == "answer":
            breaker.answered(now, well=one, latency_s=two)
        elif kind == "sent" and breaker.allows(now):
            breaker.sent(now)
        elif kind == "unsent":
            breaker.unsent(now)
        elif kind == "probe":
            breaker.observed(now, waiting=one, gpu_memory_ratio=two)
        state = breaker.state(now)
        assert state == before or (before, state) in moves
        if state == "open":
            assert not breaker.allows(now)
        before = state


def test_round_robin_gives_each_its_weight_spread_out():
    router = RoundRobin()
    replicas = [Candidate("a", weight=5), Candidate("b"), Candidate("c")]
    assert "".join(router.choose(replicas, 0) for _ in range(7)) == "aabacaa"


def test_round_robin_goes_on_without_one_that_is_gone():
    router = RoundRobin()
    both = [Candidate("a"), Candidate("b")]
    router.choose(both, 0)
    assert {router.choose(both[:1], 0) for _ in range(5)} == {"a"}


def test_the_least_loaded_for_its_weight_is_chosen_and_the_faster_among_equals():
    assert LeastLoad().choose([Candidate("a", load=5), Candidate("b", weight=4, load=8)], 0) == "b"
    assert LeastLoad().choose([Candidate("a", latency_s=0.2), Candidate("b", latency_s=0.1)], 0) == "b"


def test_equal_prefixes_meet_at_one_replica():
    router, replicas = PrefixHash(1.25), [Candidate(name) for name in "abcd"]
    for prefix in map(str, range(50)):
        assert len({router.choose(replicas, hash64(prefix)) for _ in range(3)}) == 1
    assert len({router.choose(replicas, hash64(str(prefix))) for prefix in range(50)}) == 4


def test_keys_stay_when_another_member_leaves():
    four, three = Ring((name, 1.0) for name in "abcd"), Ring((name, 1.0) for name in "abc")
    keys = [hash64(str(number)) for number in range(1000)]
    moved = [key for key in keys if next(four.walk(key)) != next(three.walk(key))]
    assert all(next(four.walk(key)) == "d" for key in moved)
    assert 150 < len(moved) < 350


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=150),
    st.lists(st.sampled_from([1.0, 2.0, 0.5]), min_size=1, max_size=6),
    st.sampled_from([1.0, 1.25, 2.0]),
)
def test_no_load_passes_its_bound_times_the_mean(steps, weights, bound):
    router = PrefixHash(bound)
    loads: Counter[str] = Counter()
    running: list[str] = []
    for key, ends in steps:
        if ends and running:
            loads[running.pop(0)] -= 1
            continue
        candidates = [Candidate(f"r{at}", weight, loads[f"r{at}"]) for at, weight in enumerate(weights)]
        chosen = router.choose(candidates, hash64(str(key)))
        loads[chosen] += 1
        running.append(chosen)
        share = weights[int(chosen[1:])] / sum(weights)
        assert loads[chosen] < bound * share * loads.total() + 1  # ceil() of the bound


def test_an_answer_is_kept_for_its_time_and_the_least_used_goes_first():
    cache = AnswerCache(2, 10.0)
    cache.put(b"a", b"1", 0.0)
    cache.put(b"b", b"2", 0.0)
    assert cache.get(b"a", 1.0) == b"1"
    cache.put(b"c", b"3", 2.0)
    assert (cache.get(b"b", 2.0), cache.get(b"a", 9.9), cache.get(b"a", 10.0), len(cache)) == (None, b"1", None, 1)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.floats(0, 5)), max_size=100), st.integers(0, 5))
def test_a_cache_answers_only_with_what_was_put_last_and_holds_no_more_than_it_may(steps, entries):
    cache, last, now = AnswerCache(entries, 8.0), {}, 0.0
    for name, put, gap in steps:
        now += gap
        key = bytes([name])
        if put:
            last[key] = (now, str(now).encode())
            cache.put(key, last[key][1], now)
        else:
            found = cache.get(key, now)
            assert found is None or (found == last[key][1] and now < last[key][0] + 8.0)
        assert len(cache) <= entries


def test_a_body_tells_model_size_and_prefix():
    asked = read_asked("/v1/completions", b'{"model":"m","prompt":"abcdefgh","max_tokens":10,"n":2}', 3)
    assert (asked.model, asked.prompt_tokens, asked.tokens, asked.prefix, asked.stream) == ("m", 2, 22, "abc", False)
    ids = read_asked("/v1/completions", b'{"prompt":[1,2,3]}', 100)
    assert (ids.prompt_tokens, ids.tokens, ids.prefix) == (3, 19, "1,2,3")
    chat = read_asked("/v1/chat/completions", b'{"messages":[{"role":"user","content":[{"text":"hi"}]}]}', 100)
    assert (chat.prefix, chat.tokens) == ("user: hi", 2 + 256)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        (b'"temperature":0', True),
        (b'"temperature":0.0,"user":"x"', True),
        (b'"temperature":0,"stream":true', False),
        (b'"temperature":1', False),
        (b'"seed":1', False),
        (b'"temperature":0,"n":2', False),
        (b'"temperature":false', False),
    ],
)
def test_only_whole_greedy_answers_are_kept(fields, kept):
    asked = read_asked("/v1/completions", b'{"prompt":"x",' + fields + b"}", 10)
    assert (asked.cache_key is not None) == kept


def test_the_order_of_fields_does_not_matter_to_the_cache():
    one = read_asked("/v1/completions", b'{"prompt":"x","temperature":0}', 10)
    other = read_asked("/v1/completions", b'{ "temperature":0, "prompt":"x" }', 10)
    chat = read_asked("/v1/chat/completions", b'{"prompt":"x","temperature":0}', 10)
    assert one.cache_key == other.cache_key != chat.cache_key


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["model", "prompt", "messages", "max_tokens", "n", "temperature", "stream"])


@settings(max_examples=200)
@given(st.dictionaries(NAMES, JSON_VALUES, max_size=6) | JSON_VALUES)
def test_any_json_is_read_or_refused(value):
    try:
        asked = read_asked("/v1/completions", orjson.dumps(value), 50)
    except Refused as refused:
        assert refused.status == 400
        assert not isinstance(value, dict)
    else:
        assert asked.tokens >= 1
        assert len(asked.prefix) <= 50


def test_usage_is_found_in_a_stream_or_counted():
    usage = AnswerUsage()
    for chunk in (b'data: {"a":1}\n\nda', b'ta: {"b":2}\n\n'):
        usage.feed(chunk)
    assert usage.tokens(10) == 12
    usage.feed(b'data: {"choices":[],"usage":{"prompt_tokens":9,"total_tokens":77}}\n\ndata: [DONE]\n\n')
    assert usage.tokens(10) == 77


def test_an_answer_that_never_began_used_nothing():
    assert AnswerUsage().tokens(10) == 0
    usage = AnswerUsage()
    usage.take_whole(b'{"usage":{"total_tokens":5}}')
    assert usage.tokens(10) == 5
    usage.take_whole(b"not json")
    assert usage.tokens(10) == 0


def test_queue_and_gpu_memory_are_read_from_any_engines_page():
    page = """# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{model_name="a b } c"} 3.0
vllm:num_requests_waiting{model_name="x"} 4 1700000000
vllm:num_requests_running{model_name="x"} 2
DCGM_FI_DEV_FB_USED{gpu="0"} 60
DCGM_FI_DEV_FB_FREE{gpu="0"} 20
loadline_num_requests_waiting nonsense
"""
    assert read(page) == Observed(7.0, 2.0, 0.75)
    assert read("sglang:num_queue_reqs 5\n").waiting == 5
    assert read("") == Observed()


@given(st.text(max_size=300))
def test_any_page_can_be_read(page):
    read(page)


def test_an_upstream_has_weight_and_gpu_page():
    assert parse_upstream("http://a:1/,weight=2,gpu=http://a:9400/metrics") == Upstream(
        "http://a:1", 2.0, "http://a:9400/metrics"
    )


@pytest.mark.parametrize(
    ("upstreams", "message"),
    [
        ((), "at least 1"),
        (("ftp://a",), "is no URL"),
        (("http://a,weight=0",), "weight is '0'"),
        (("http://a,wait=1",), "'wait=1'"),
        (("http://a", "http://a/"), "stands there twice"),
    ],
)
def test_an_upstream_that_cannot_be_used_is_named(upstreams, message):
    with pytest.raises(ValueError, match=message):
        GatewaySettings(upstream=upstreams)


def test_a_config_file_holds_the_settings(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text('[gateway]\nupstream = ["http://a"]\nuser_tokens_per_min = 100\n')
    assert GatewaySettings(**read_config(path)).limits.user_tokens_per_min == 100
    path.write_text("upstream = [")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_config(path)
