"""The workers of a run: started wherever there is room, given pictures one by one, and replaced when they are lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import LowmemError, ServerError, error_of, on_one_line
from ..network.parameters import ParameterSet
from ..progress.display import Progress, Step
from .nodes import Node
from .pictures import Picture
from .worker import Answer, Worker

#: A picture whose workers died so often is at fault itself; and so is a machine whose workers died so often before they
#: had opened the keys.
MOST_DEATHS = 3
_MEMORY_HINT = "probably for want of memory: ray logs on that machine tells more"


@dataclass(frozen=True)
class Task:
    """The task of every worker.

    set: the parameter set;
    weights: the file's content;
    anyway: though there seems to be too little memory.
    """

    set: ParameterSet
    weights: bytes
    anyway: bool

    @property
    def memory_bytes(self) -> int:
        """Return what each declares."""
        return 0 if self.anyway else self.set.server_bytes


@dataclass
class _Place:
    """A machine that has keys.

    keys: the folder of them;
    workers: there are now;
    deaths: of workers that had not opened the keys;
    left_out: why no more workers are started there.
    """

    node: Node
    keys: str
    workers: int = 0
    deaths: int = 0
    left_out: LowmemError | None = None

    @property
    def free(self) -> int:
        return 0 if self.left_out else self.node.places - self.workers


@dataclass(eq=False)
class _Member:
    """A worker's process.

    handle: Ray's;
    place: the machine that it is on;
    picture: that it has; None while it opens the keys, or has nothing to do.
    """

    handle: Any
    place: _Place
    picture: Picture | None = None


class Crew:
    """Workers, started, given pictures and replaced.

    nodes: the machines, each with the folder of its keys;
    peak_bytes: the most memory any worker had in RAM.
    """

    def __init__(self, task: Task, nodes: Sequence[tuple[Node, str]], progress: Progress) -> None:
        self.peak_bytes = 0
        self._task, self._progress = task, progress
        self._places = [_Place(node, keys) for node, keys in nodes]
        self._members: list[_Member] = []
        self._idle: list[_Member] = []
        self._asked: dict[Any, _Member] = {}
        self._waiting: deque[Picture] = deque()
        self._left = 0
        self._steps: list[Step] = []

    def evaluate(self, pictures: Sequence[Picture]) -> None:
        """Have all of them evaluated; what becomes of each, it knows at the end.

        Errors: where no machine evaluated any, the last one's.
        """
        import ray

        self._waiting, self._left = deque(pictures), len(pictures)
        self._expect(len(pictures))
        try:
            while self._left:
                self._start()
                if not self._asked:
                    self._fail_all(len(pictures))
                    return
                answered, _ = ray.wait(list(self._asked))
                for ref in answered:
                    self._hear(ref)
        finally:
            for member in list(self._members):
                self._dismiss(member)

    # --- workers ------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Start as many workers as there are pictures left and places free, where most are free first."""
        import ray

        while len(self._members) < self._left:
            place = max(self._places, key=lambda place: place.free)
            if place.free <= 0:
                return
            options = place.node.options(num_cpus=place.node.cores, memory=self._task.memory_bytes or None)
            handle = ray.remote(max_restarts=0, max_task_retries=0)(Worker).options(**options).remote(place.node.cores)
            member = _Member(handle, place)
            place.workers += 1
            self._members.append(member)
            asked = handle.open.remote(self._task.set, place.keys, self._task.weights, anyway=self._task.anyway)
            self._asked[asked] = member

    def _hear(self, ref: Any) -> None:
        """Hear a worker: what became of its picture, or, at first, whether it could open the keys."""
        import ray

        member = self._asked.pop(ref)
        try:
            answer = ray.get(ref)
        except ray.exceptions.RayError as error:
            self._lose(member, on_one_line(error))
            return
        if isinstance(answer, Answer):
            self._finish(member, answer)
        elif answer:
            self._leave_out(member, error_of(answer))
            return
        self._show()
        self._give(member)

    def _give(self, member: _Member) -> None:
        """Give the next picture that waits and can be read, if there is one."""
        while self._waiting:
            picture = self._waiting.popleft()
            content = picture.read()
            if content is not None:
                member.picture = picture
                name, checkpoints = str(picture.job.ciphertext), picture.job.checkpoints is not None
                self._asked[member.handle.evaluate.remote(content, name, checkpoints)] = member
                return
            self._end_picture()
        self._idle.append(member)

    def _lose(self, member: _Member, reason: str) -> None:
        """Give up a worker that died, or does not answer: its picture is given to another."""
        self._dismiss(member)
        name, picture = member.place.node.name, member.picture
        if picture is None:
            member.place.deaths += 1
            if member.place.deaths >= MOST_DEATHS:
                message = f"{name} of the cluster: workers end before they have opened the keys: {reason}"
                member.place.left_out = ServerError(message, _MEMORY_HINT)
            return
        picture.deaths += 1
        path = picture.job.ciphertext
        if picture.deaths >= MOST_DEATHS:
            message = f"{picture.deaths} workers died while they evaluated {path}, the last on {name}: {reason}"
            picture.fail(ServerError(message, _MEMORY_HINT))
            self._end_picture()
            return
        self._progress.message(f"a worker on {name} was lost, and {path} is evaluated again")
        self._waiting.appendleft(picture)
        if self._idle:
            self._give(self._idle.pop())

    def _leave_out(self, member: _Member, error: LowmemError) -> None:
        """Leave out a machine whose keys cannot be opened, or which has no memory for one more worker."""
        name = member.place.node.name
        member.place.left_out = type(error)(f"{name} of the cluster: {error.message}", error.hint)
        self._progress.message(member.place.left_out.message)
        self._dismiss(member)

    def _dismiss(self, member: _Member) -> None:
        import ray

        ray.kill(member.handle)
        member.place.workers -= 1
        self._members.remove(member)
        if member in self._idle:
            self._idle.remove(member)

    # --- pictures -----------------------------------------------------------------------------------------

    def _finish(self, member: _Member, answer: Answer) -> None:
        assert member.picture is not None
        self.peak_bytes = max(self.peak_bytes, answer.line["peak_bytes"])
        member.picture.finish(answer)
        member.picture = None
        self._end_picture()

    def _end_picture(self) -> None:
        self._left -= 1
        self._show()

    def _fail_all(self, count: int) -> None:
        """Fail all that waits, for want of machines.  Errors: why, if there was none from the start."""
        failures = [place.left_out for place in self._places if place.left_out]
        error = failures[-1] if failures else ServerError("the cluster has no machine left")
        if self._left == count:
            raise error
        while self._waiting:
            self._waiting.popleft().fail(error)

    # --- progress -----------------------------------------------------------------------------------------

    def _expect(self, count: int) -> None:
        """Expect a step a picture, which lasts until one more has ended.

        As many end at about the same time as there are workers: those that end as the first of their round are of one
        kind, the second of another.
        """
        self._progress.step("cluster", "opening the keys")
        workers = max(1, min(count, sum(place.free for place in self._places)))
        name = "groups" if self._task.set.pictures > 1 else "pictures"
        self._steps = [Step(name, f"{i + 1} of {count}", f"picture {i % workers}") for i in range(count)]
        self._progress.expect(self._steps)

    def _show(self) -> None:
        """Show the step that lasts until the next picture ends, unless it has begun."""
        while len(self._steps) > max(self._left - 1, 0):
            step = self._steps.pop(0)
            self._progress.step(step.stage, step.name)
