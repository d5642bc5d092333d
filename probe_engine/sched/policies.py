"""The orders in which waiting requests are admitted, by the name that ``SchedulerConfig.policy`` gives them."""

from collections.abc import Callable, Mapping

from probe_engine.sched.batch_queue import BatchQueue
from probe_engine.sched.config import Policy, SchedulerConfig
from probe_engine.sched.fair_queue import FairQueue
from probe_engine.sched.priority_queue import PriorityQueue
from probe_engine.sched.request import DecodeClock
from probe_engine.sched.slack_queue import SlackQueue
from probe_engine.sched.waiting_queue import FirstCome, WaitingQueue


def _dynamic(config: SchedulerConfig, clock: DecodeClock) -> WaitingQueue:
    return BatchQueue(
        config.max_num_seqs,
        preferred=config.preferred_batch_sizes,
        delay_s=config.max_queue_delay_s,
        length_bounds=config.length_buckets,
    )


POLICIES: Mapping[Policy, Callable[[SchedulerConfig, DecodeClock], WaitingQueue]] = {
    "fcfs": lambda config, clock: FirstCome(),
    "priority": lambda config, clock: PriorityQueue(config.priority_ageing_s),
    "fair": lambda config, clock: FairQueue(config.fair_output_weight, clock),
    "slo": lambda config, clock: SlackQueue(config.ttft_slo_s, config.prefill_s_per_token),
    "static": lambda config, clock: BatchQueue(config.max_num_seqs),
    "dynamic": _dynamic,
}
