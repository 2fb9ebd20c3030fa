"""The network as a parameter set computes it, in the clear, on many pictures: in processes, one for each processor.

What a set's refreshes do to values is known without any key: the series in place of the ReLU, and noise of a measured
size.  A simulator is a process that is given set and weights, and then by turns a group of pictures, whose logits it
answers with.  It computes in numpy alone, in one thread.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from queue import SimpleQueue

import numpy as np

from ..errors import ServerError, error_of, told
from ..machine import child
from ..machine.faults import explain
from ..machine.files import os_fault
from ..network.clear import Clear, ClearEvaluator
from ..network.parameters import PICTURE_LEVELS, ParameterSet
from ..network.resnet20 import Network, NoObserver, group_logits, pack_group
from ..network.scaling import Scaled, scale
from ..network.weights import Weights
from ..progress.display import Progress, Step

#: One thread each: they are as many as the processors.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_ENDED_HINT = "is there memory enough for one on each processor? LOWMEM_RESNET20_THREADS says how many there are"


def simulate(
    set_: ParameterSet, weights: Weights, pixels: np.ndarray, noise: float, processes: int, progress: Progress
) -> np.ndarray:
    """Return (n, classes) logits of the packed network in the clear, with the set's ReLU and levels.

    pixels: (n, colours, width, width) in [0, 1];
    noise: standard deviation that each refresh adds, in the unit of the scaled values; drawn anew for each picture, and
    the same in the next run.

    Errors: EnvironmentFault where the system starts no process; ServerError where one ends before its time.  Call it in
    the main thread: the processes end with the thread that starts them.
    """
    groups = [(first, pixels[first : first + set_.pictures]) for first in range(0, len(pixels), set_.pictures)]
    processes = min(processes, len(groups))
    names = [f"picture {min(first + processes * set_.pictures, len(pixels))} of {len(pixels)}" for first, _ in groups]
    progress.start(f"simulating set {set_.number}")
    progress.expect([Step("simulation", name, "pictures") for name in names[::processes]])
    logits = []
    with ExitStack() as stack:
        idle: SimpleQueue[_Simulator] = SimpleQueue()
        for _ in range(processes):
            idle.put(stack.enter_context(_started(set_, weights, noise)))

        def simulated(group: tuple[int, np.ndarray]) -> np.ndarray:
            simulator = idle.get()
            try:
                return simulator.ask(group)
            finally:
                idle.put(simulator)

        pool = ThreadPoolExecutor(processes)
        stack.callback(pool.shutdown, cancel_futures=True)
        answers = pool.map(simulated, groups)
        for number in range(len(groups)):
            if number % processes == 0:
                progress.step("simulation", names[number])
            logits.append(next(answers))
    return np.concatenate(logits)


def group_in_the_clear(
    set_: ParameterSet, weights: Weights, scaled: Scaled, noise: float, seed: int, pixels: np.ndarray
) -> np.ndarray:
    """Return (n, classes) logits of one group.

    pixels: (n, colours, width, width) in [0, 1], of as many pictures as the set evaluates together, or fewer.
    """
    ev = ClearEvaluator(set_, noise, seed)
    packed = [Clear(slots, PICTURE_LEVELS) for slots in pack_group(set_, list(map(weights.normalise, pixels)))]
    with np.errstate(all="ignore"):  # a value out of range grows without bound
        return group_logits(set_, Network(set_, scaled, ev, NoObserver()).run(*packed).values)[: len(pixels)]


class _Simulator:
    """A process that has been started, as the one that asks it sees it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def tell(self, what: object) -> None:
        """Send it something.  Errors: ServerError."""
        assert self._process.stdin is not None
        with _ending_told():
            pickle.dump(what, self._process.stdin)
            self._process.stdin.flush()

    def ask(self, group: tuple[int, np.ndarray]) -> np.ndarray:
        """Have a group computed: the number of its first picture, and its pixels.  Errors: ServerError; its own."""
        assert self._process.stdout is not None
        self.tell(group)
        with _ending_told():
            answer = pickle.load(self._process.stdout)  # of a process of our own
        if isinstance(answer, dict):
            raise error_of(answer)
        return answer


@contextmanager
def _ending_told() -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, pickle.UnpicklingError):
        raise ServerError("a process that simulates ended before its time", _ENDED_HINT) from None


@contextmanager
def _started(set_: ParameterSet, weights: Weights, noise: float) -> Iterator[_Simulator]:
    command, environment = child.command("model.simulators"), {**os.environ, **_ONE_THREAD}
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    except OSError as error:  # no process, or no memory for one
        raise os_fault(error, "start", "a process that simulates") from error
    try:
        simulator = _Simulator(process)
        simulator.tell((set_, weights, noise))
        yield simulator
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Answer the process that started this one until it closes the pipe, or ends in the middle of asking."""
    with suppress(EOFError, pickle.UnpicklingError):
        set_, weights, noise = pickle.load(sys.stdin.buffer)  # of the process that started this one
        scaled = scale(weights, set_.refresh)
        while True:
            seed, pixels = pickle.load(sys.stdin.buffer)
            answer: np.ndarray | dict
            try:
                answer = group_in_the_clear(set_, weights, scaled, noise, seed, pixels)
            except Exception as error:  # noqa: BLE001 - whoever asked tells the user
                answer = told(explain(error))
            pickle.dump(answer, sys.stdout.buffer)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
