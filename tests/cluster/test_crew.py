"""Who gets which picture, and what becomes of those whose workers are lost: with Ray's calls replaced, and no
process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import lowmem_resnet20
from lowmem_resnet20.cluster.crew import MOST_DEATHS, Crew, Task
from lowmem_resnet20.cluster.nodes import Node, _node, check_programs
from lowmem_resnet20.cluster.pictures import Picture
from lowmem_resnet20.cluster.program import Program, find_program
from lowmem_resnet20.cluster.worker import Answer
from lowmem_resnet20.errors import EnvironmentFault, KeyFolderError, ServerError, told
from lowmem_resnet20.progress.display import SilentProgress, Step
from lowmem_resnet20.server.request import Job
from miniature import INSECURE_SHORT_NATIVE_SET

ray = pytest.importorskip("ray")
LINE = {"seconds": 2.0, "peak_bytes": 1000}


@dataclass
class Cluster:
    """Stands for Ray: a call is done when it is waited for, the first first.

    opens, evaluates: what calls of a node's worker answer, by the node's id; an exception is raised.
    """

    opens: Callable[[str], Any] = lambda node: {}
    evaluates: Callable[[str, str], Any] = lambda node, name: Answer(LINE, name.encode())
    most: int = 0
    alive: list[str] = field(default_factory=list)
    given: list[tuple[str, str]] = field(default_factory=list)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(ray, "remote", lambda **_: lambda _: self)
        patch.setattr(ray, "wait", lambda refs: (refs[:1], refs[1:]))
        patch.setattr(ray, "get", lambda ref: ref())
        patch.setattr(ray, "kill", lambda handle: self.alive.remove(handle.node))

    def options(self, *, num_cpus: int, memory: int | None, scheduling_strategy: Any) -> Any:
        return _Handle(self, scheduling_strategy.node_id)


@dataclass(eq=False)
class _Handle:
    cluster: Cluster
    node: str

    def remote(self, *given: Any, **words: Any) -> Any:
        """Starts it, when called as the class; or makes a call, as one of its methods."""
        self.cluster.alive.append(self.node)
        self.cluster.most = max(self.cluster.most, len(self.cluster.alive))
        return self

    @property
    def open(self) -> Any:
        return _Method(lambda *_, **__: self._ref(self.cluster.opens, self.node))

    @property
    def evaluate(self) -> Any:
        return _Method(self._evaluate)

    def _evaluate(self, content: bytes, name: str, checkpoints: bool) -> Any:
        assert content == name.encode()
        self.cluster.given.append((self.node, Path(name).name))
        return self._ref(self.cluster.evaluates, self.node, Path(name).name)

    @staticmethod
    def _ref(call: Callable[..., Any], *given: str) -> Any:
        def get() -> Any:
            answer = call(*given)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return get


@dataclass
class _Method:
    remote: Callable[..., Any]


class Said(SilentProgress):
    """Keeps what was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.expected: list[Step] = []
        self.steps: list[str] = []
        self.messages: list[str] = []

    def expect(self, steps) -> None:
        self.expected = list(steps)

    def step(self, stage: str, name: str) -> None:
        self.steps.append(name)

    def message(self, text: str) -> None:
        self.messages.append(text)


def died() -> Exception:
    return ray.exceptions.RayActorError()


def nodes(*places: int) -> list[tuple[Node, str]]:
    return [(Node("abc"[i] * 56, f"node-{'abc'[i]}", 1, count), "/keys") for i, count in enumerate(places)]


def evaluate(cluster: Cluster, folder: Path, count: int, *places: int) -> tuple[list[Picture], Said]:
    """So many pictures on nodes with so many places."""
    pictures, said = [], Said()
    for number in range(count):
        path = folder / f"{number}.ct"
        path.write_bytes(str(path).encode())
        pictures.append(Picture(Job(path, folder / f"{number}.out")))
    with pytest.MonkeyPatch.context() as patch:
        cluster.install(patch)
        crew = Crew(Task(INSECURE_SHORT_NATIVE_SET, b"weights", False), nodes(*places), said)
        try:
            crew.evaluate(pictures)
        finally:
            assert cluster.alive == []
    return pictures, said


def errors(pictures: list[Picture]) -> list[str | None]:
    return [(picture.line or {}).get("error") for picture in pictures]


def test_pictures_go_to_as_many_workers_as_there_are_places(tmp_path):
    cluster = Cluster()
    pictures, said = evaluate(cluster, tmp_path, 8, 1, 2)
    assert cluster.most == 3 and {node[0] for node, _ in cluster.given} == {"a", "b"}
    assert sorted(name for _, name in cluster.given) == [f"{i}.ct" for i in range(8)]
    assert [picture.line for picture in pictures] == [LINE] * 8
    assert all((tmp_path / f"{i}.out").read_bytes() == f"{i}.ct".encode() for i in range(8))
    assert said.steps == ["opening the keys", *(f"{i} of 8" for i in range(1, 9))]
    assert [step.kind for step in said.expected] == [f"picture {i % 3}" for i in range(8)]


def test_no_more_workers_than_pictures(tmp_path):
    cluster = Cluster()
    evaluate(cluster, tmp_path, 2, 8, 8)
    assert cluster.most == 2


def test_a_lost_workers_picture_is_evaluated_again(tmp_path):
    deaths = iter([died(), died()])
    cluster = Cluster(evaluates=lambda node, name: next(deaths, None) or Answer(LINE, b"x"))
    pictures, said = evaluate(cluster, tmp_path, 4, 1, 1)
    assert errors(pictures) == [None] * 4 and len(cluster.given) == 6
    assert len(said.messages) == 2 and all(" was lost, and " in message for message in said.messages)


def test_a_picture_that_workers_die_of_fails_alone(tmp_path):
    cluster = Cluster(evaluates=lambda node, name: died() if name == "1.ct" else Answer(LINE, b"x"))
    pictures, _ = evaluate(cluster, tmp_path, 4, 1, 1)
    failed = errors(pictures)
    assert [text is None for text in failed] == [True, False, True, True]
    assert failed[1].startswith(
        f"{MOST_DEATHS} workers died while they evaluated {tmp_path / '1.ct'}, the last on node-"
    )
    assert cluster.given.count(cluster.given[0]) <= MOST_DEATHS and len(cluster.given) == 3 + MOST_DEATHS
    assert not (tmp_path / "1.out").exists()


@pytest.mark.parametrize(
    "answer", [told(KeyFolderError("the keys are odd", "mend them")), died], ids=["cannot open", "dies"]
)
def test_a_node_whose_workers_cannot_open_the_keys_is_left_out(tmp_path, answer):
    """The others do its work."""
    opens = lambda node: (answer() if callable(answer) else answer) if node[0] == "a" else {}
    cluster = Cluster(opens=opens)
    pictures, said = evaluate(cluster, tmp_path, 4, 2, 1)
    assert errors(pictures) == [None] * 4
    assert {node[0] for node, _ in cluster.given} == {"b"}
    assert callable(answer) or said.messages[0] == "node-a of the cluster: the keys are odd"


def test_when_no_node_can_open_the_keys_the_run_fails(tmp_path):
    with pytest.raises(KeyFolderError, match=r"^node-. of the cluster: the keys are odd$") as caught:
        evaluate(Cluster(opens=lambda node: told(KeyFolderError("the keys are odd", "mend them"))), tmp_path, 3, 1, 1)
    assert caught.value.hint == "mend them"
    with pytest.raises(ServerError, match="workers end before they have opened the keys: "):
        evaluate(Cluster(opens=lambda node: died()), tmp_path, 3, 1, 1)


def test_when_the_last_node_is_lost_what_is_done_stays_done(tmp_path):
    """The others fail, each for itself."""
    lives = iter([{}])
    cluster = Cluster(
        opens=lambda node: next(lives, None) or (died() if cluster.given else {}),
        evaluates=lambda node, name: Answer(LINE, b"x") if len(cluster.given) == 1 else died(),
    )
    pictures, _ = evaluate(cluster, tmp_path, 3, 1)
    assert [text is None for text in errors(pictures)] == [True, False, False]
    assert (tmp_path / "0.out").exists()


def test_a_picture_that_is_gone_fails_alone(tmp_path, monkeypatch):
    """It was there when the run began."""
    read = Picture.read
    monkeypatch.setattr(Picture, "read", lambda self: (self.job.ciphertext.unlink(), read(self))[1])
    pictures, _ = evaluate(Cluster(), tmp_path, 2, 1)
    assert errors(pictures) == [f"cannot read {tmp_path / f'{i}.ct'}: No such file or directory" for i in range(2)]


def test_a_result_that_cannot_be_written_fails_alone(tmp_path):
    (tmp_path / "1.out").mkdir()
    pictures, _ = evaluate(Cluster(), tmp_path, 3, 1)
    assert errors(pictures) == [None, f"cannot write {tmp_path / '1.out'}: Is a directory", None]


# --- nodes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("processors", "memory", "needed", "cores", "places"),
    [
        (8, 64, 3, 2, 4),
        (8, 64, 20, 2, 3),
        (8, 2, 3, 2, 0),
        (1, 64, 3, 1, 1),
        (0, 64, 3, 1, 0),
        (3, 64, 3, 2, 1),
        (8, 2, 0, 2, 4),
        (2.5, 64, 3, 2, 1),
    ],
)
def test_places_of_a_node(processors, memory, needed, cores, places):
    resources = {"CPU": processors, "memory": float(memory << 30)}
    node = _node(
        {"NodeID": "x", "NodeManagerHostname": "", "NodeManagerAddress": "10", "Resources": resources}, needed << 30
    )
    assert (node.name, node.cores, node.places) == ("10", cores, places)


def test_every_node_must_have_this_program():
    ours = Program(*find_program())
    assert ours.version == lowmem_resnet20.__version__ and len(ours.digest) == 12
    check_programs([("a", ours), ("b", ours)])
    for theirs, words in (
        (Program("0.0.1", ours.digest), r"version 0\.0\.1 \("),
        (Program(ours.version, "0123456789ab"), r"version .* \(0123456789ab\)"),
        (Program("", ""), "none"),
    ):
        with pytest.raises(EnvironmentFault, match=f"^b of the cluster has another .*: {words}"):
            check_programs([("a", ours), ("b", theirs)])
