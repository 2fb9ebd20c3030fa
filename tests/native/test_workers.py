"""Calls of kernels that wait in line: order, memory, errors."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import numpy as np
import pytest

from lowmem_resnet20.native.kernels.workers import AHEAD, Workers


def working(job):
    """A kernel in Python that does ``job(number, *arguments)``."""
    taking = threading.Lock()

    def kernel(counter, jobs, scratch, *arguments):
        while True:
            with taking:
                number = int(counter[0])
                counter[0] += 1
            if number >= jobs:
                return
            job(number, *arguments)
            with taking:
                counter[1] += 1

    return kernel


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("ahead", [0, 1, AHEAD])
def test_each_job_of_a_call_is_done_once_after_all_of_the_calls_before(count, ahead):
    workers, done, early, lock = Workers(count, 8), [], [], threading.Lock()
    workers.ahead = ahead
    jobs, finished = [call % 5 + 1 for call in range(40)], [0] * 40

    def job(number, call):
        early.extend(earlier for earlier in range(call) if finished[earlier] != jobs[earlier])
        done.append((call, number))
        with lock:
            finished[call] += 1

    for call in range(40):
        workers.run(working(job), jobs[call], call)
    workers.wait()
    assert sorted(done) == [(call, number) for call in range(40) for number in range(jobs[call])]
    assert not early


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("ahead", [0, 1, AHEAD])
def test_calls_that_are_made_together_come_after_all_before_them(count, ahead):
    """One to four at a time, the later ones of which are made together among themselves."""
    workers, early, lock = Workers(count, 8), [], threading.Lock()
    workers.ahead = ahead
    jobs, finished = [call % 5 + 1 for call in range(40)], [0] * 40

    def job(number, call, first):
        early.extend(earlier for earlier in range(first) if finished[earlier] != jobs[earlier])
        with lock:
            finished[call] += 1

    first = 0
    while first < 40:
        size = min(first % 4 + 1, 40 - first)
        with workers.together():
            workers.run(working(job), jobs[first], first, first)
            with workers.together():
                for call in range(first + 1, first + size):
                    workers.run(working(job), jobs[call], call, first)
        first += size
    workers.wait()
    assert finished == jobs and not early


def test_a_thread_goes_on_with_what_is_made_together():
    """While another stands still in the call before."""
    workers, gone_on, seen = Workers(2, 8), threading.Event(), []
    workers.ahead = AHEAD
    with workers.together():
        assert workers.are_together
        workers.run(working(lambda number: seen.append(gone_on.wait(60))), 1)
        workers.run(working(lambda number: gone_on.set()), 1)
    assert not workers.are_together
    workers.wait()
    assert seen == [True]


def test_calls_wait_while_the_next_are_prepared():
    """One thread stands still in the first call, and others may be handed over; the one after them waits for it."""
    workers, go = Workers(2, 8), threading.Event()
    workers.ahead = AHEAD
    started = threading.Event()

    def job(number):
        started.set()
        go.wait(60)

    for _ in range(AHEAD):
        workers.run(working(job), 1)
    assert started.wait(60)
    go.set()
    workers.wait()


def test_what_calls_are_given_is_held_until_they_are_done():
    workers, go, seen = Workers(2, 8), threading.Event(), []
    workers.ahead = AHEAD
    operand = np.arange(1 << 16)
    address, gone = operand.ctypes.data, weakref.ref(operand)
    workers.run(working(lambda number: go.wait(60)), 1)
    workers.run(working(lambda number: seen.append(gone() is not None)), 1, held=operand)
    del operand
    gc.collect()
    go.set()
    workers.wait()
    assert address and seen == [True]
    deadline = time.monotonic() + 60
    while gone() is not None and time.monotonic() < deadline:  # the other thread lets go a moment later
        time.sleep(0.01)
    assert gone() is None


@pytest.mark.parametrize("ahead", [0, AHEAD])
def test_a_failing_job_is_raised_and_later_calls_are_done(ahead):
    def failing(counter, jobs, scratch):
        raise MemoryError("none left")

    workers, done = Workers(2, 8), []
    workers.ahead = ahead
    with pytest.raises(MemoryError, match="none left"):
        workers.run(failing, 2)
        workers.wait()
    try:
        workers.run(working(done.append), 3)
        workers.wait()
    except MemoryError:  # of the other thread
        workers.wait()
    assert sorted(done) == [0, 1, 2]


def test_threads_end_with_their_workers():
    before = set(threading.enumerate())
    workers = Workers(3, 8)
    workers.run(working(lambda number: None), 4)
    ours = set(threading.enumerate()) - before
    assert len(ours) == 2
    del workers
    gc.collect()
    for thread in ours:
        thread.join(60)
        assert not thread.is_alive()
