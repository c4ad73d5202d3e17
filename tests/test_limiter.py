"""The budget of a host, in virtual time: caps that hold whatever happens, and a host that is heard."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.archives.limiter import LEASE, LEAST, Lease, Limiter, Outcome, Wait
from pipeline.archives.policy import HostPolicy
from tests.limiter_world import Wanted, World

SLACK = 1e-6  # s of rounding

POLICIES = st.builds(
    HostPolicy,
    in_flight=st.integers(1, 6),
    rate=st.floats(0.5, 50),
    burst=st.integers(1, 6),
    recovery=st.integers(1, 20),
    failures=st.integers(1, 10),
    pause=st.floats(0.1, 30),
)
REQUESTS = st.lists(
    st.builds(
        Wanted,
        at=st.floats(0, 60),
        seconds=st.floats(0.001, 40),
        outcome=st.sampled_from([*Outcome, Outcome.GOOD, Outcome.GOOD]),
        retry_after=st.none() | st.floats(0, 60),
        dies=st.booleans(),
    ),
    max_size=40,
)


def limiter(**changes: Any) -> Limiter:
    return Limiter(HostPolicy(**changes))


def leased(made: Limiter, now: float, holder: str = "a") -> Lease:
    answer = made.ask(now, holder)
    assert isinstance(answer, Lease), answer
    return answer


def waits(made: Limiter, now: float, holder: str = "b") -> Wait:
    answer = made.ask(now, holder)
    assert isinstance(answer, Wait), answer
    made.leave(holder)
    return answer


@given(POLICIES, REQUESTS)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_the_caps_hold_and_everyone_is_served_whatever_happens(policy: HostPolicy, wanted: list[Wanted]) -> None:
    world = World(Limiter(policy)).run(wanted)
    assert sorted(world.order) == list(range(len(wanted)))
    assert max(world.in_flight, default=0) <= policy.in_flight
    for first, start in enumerate(world.sent):
        for last in range(first, len(world.sent)):
            took = world.sent[last] - start + SLACK
            assert last - first + 1 <= policy.burst + policy.rate * took + SLACK


@given(REQUESTS)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_nothing_is_sent_while_a_host_has_asked_to_wait(wanted: list[Wanted]) -> None:
    """From the end of each answer with a Retry-After on, for everyone."""
    world = World(limiter(failures=10**6)).run(wanted)
    began = dict(zip(world.order, world.sent, strict=True))
    for number, request in enumerate(wanted):
        if request.retry_after is not None and not request.dies:
            asked = began[number] + request.seconds
            assert not any(asked < sent < asked + request.retry_after - SLACK for sent in world.sent)


def test_who_comes_first_is_served_first() -> None:
    wanted = [Wanted(at=0.001 * number, seconds=0.7) for number in range(50)]
    world = World(limiter(in_flight=3, rate=4, burst=2)).run(wanted)
    assert world.order == list(range(50))


def test_a_quiet_host_gets_a_burst_and_then_the_rate() -> None:
    world = World(limiter(in_flight=100, rate=5, burst=4)).run([Wanted(0, 0.01)] * 24)
    assert world.sent[:4] == [0, 0, 0, 0]
    assert world.sent[-1] == pytest.approx(20 / 5)


def test_a_complaint_halves_rate_and_cap_once_for_all_that_was_in_flight() -> None:
    made = limiter(in_flight=4, rate=8, burst=4)
    leases = [leased(made, 0, str(number)) for number in range(4)]
    for lease in leases:
        made.done(1, lease, Outcome.BUSY)
    assert (made.rate, made.in_flight) == (4, 2)
    made.done(2, leased(made, 2), Outcome.BUSY)
    assert (made.rate, made.in_flight) == (2, 1)


def test_complaints_without_end_leave_a_trickle() -> None:
    made = limiter(failures=10**6)
    for second in range(0, 100_000, 100):
        made.done(second, leased(made, second), Outcome.BUSY)
    assert made.rate == made.policy.rate * LEAST
    assert made.in_flight == 1


def test_good_answers_give_back_one_request_in_flight_each_hundred() -> None:
    made = limiter(in_flight=4, rate=1000, burst=4)
    made.done(0, leased(made, 0), Outcome.BUSY)
    caps = []
    for number in range(1, 301):
        made.done(number, leased(made, number), Outcome.GOOD)
        caps.append(made.in_flight)
    assert [caps.index(cap) + 1 for cap in (2, 3, 4)] == [1, 100, 200]
    assert made.rate == 1000


def test_failures_in_a_row_break_the_circuit_and_one_request_probes_it() -> None:
    made = limiter(failures=3, pause=30, rate=100, burst=4)
    for _ in range(3):
        made.done(0, leased(made, 0), Outcome.FAILED)
    pause = waits(made, 1)
    assert pause.paused and pause.seconds == pytest.approx(29)
    probe = leased(made, 30)
    assert not waits(made, 30.5).paused
    made.done(31, probe, Outcome.FAILED)
    assert waits(made, 31).seconds == pytest.approx(60)
    made.done(92, leased(made, 92), Outcome.GOOD)
    assert isinstance(leased(made, 93), Lease) and isinstance(leased(made, 93, "c"), Lease)


def test_good_answers_between_failures_keep_the_circuit_whole() -> None:
    made = limiter(failures=3, rate=100)
    for second in range(100):
        outcome = Outcome.FAILED if second % 3 else Outcome.GOOD
        made.done(second, leased(made, second), outcome)


def test_what_was_in_flight_when_the_circuit_broke_does_not_break_it_again() -> None:
    made = limiter(failures=1, pause=30, rate=100, in_flight=4)
    leases = [leased(made, 0, str(number)) for number in range(4)]
    for lease in leases:
        made.done(1, lease, Outcome.FAILED)
    assert waits(made, 1).seconds == pytest.approx(30)


def test_a_pause_has_a_longest() -> None:
    made = limiter(failures=1, pause=30, longest_pause=100, rate=100)
    now = 0.0
    for _ in range(50):
        made.done(now, leased(made, now), Outcome.FAILED)
        now += waits(made, now).seconds + 1
    assert now == pytest.approx(30 + 60 + 48 * 100 + 50)


def test_a_lease_of_the_dead_lapses_and_one_that_is_renewed_does_not() -> None:
    made = limiter(in_flight=1, rate=100, burst=10)
    lease = leased(made, 0)
    made.renew(LEASE - 1, lease)
    waits(made, LEASE + 1)
    leased(made, 2 * LEASE, "c")
    made.done(2 * LEASE + 1, lease, Outcome.BUSY)  # too late: it counts for nothing
    assert made.rate == 100
    waits(made, 2 * LEASE + 1)


def test_who_waits_and_dies_holds_up_nobody_for_long() -> None:
    made = limiter(in_flight=1, rate=100)
    lease = leased(made, 0)
    assert isinstance(made.ask(0, "dead"), Wait)
    made.done(1, lease, Outcome.GOOD)
    assert isinstance(made.ask(1, "alive"), Wait)
    leased(made, 10, "alive")


def test_a_freeze_leaves_no_burst_behind() -> None:
    world = World(limiter(in_flight=10, rate=1, burst=10))
    world.limiter.done(0, leased(world.limiter, 0), Outcome.GOOD, retry_after=100)
    world.run([Wanted(100, 0.01)] * 10)
    assert world.sent == pytest.approx([100 + number for number in range(10)], abs=0.01)


def test_the_longest_wish_to_be_left_alone_counts() -> None:
    made = limiter(rate=100)
    first, second = leased(made, 0), leased(made, 0)
    made.done(1, first, Outcome.BUSY, retry_after=60)
    made.done(2, second, Outcome.BUSY, retry_after=1)
    assert waits(made, 3).seconds == pytest.approx(58)
