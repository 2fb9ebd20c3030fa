"""What the page shows: which pictures are evaluated next, what may be removed or tried again, who is told of it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lowmem_resnet20.errors import ServerError
from lowmem_resnet20.model.classification import Classification
from lowmem_resnet20.network.architecture import CIFAR10_CLASSES
from lowmem_resnet20.network.ranges import Foreseen
from lowmem_resnet20.page import session as sessions
from lowmem_resnet20.page.session import DONE, FAILED, MOST_WAITING, WAITING, Session, TooMany, name_of


def add(session: Session, name: str = "a.png") -> int:
    with session.reading():
        foreseen = Foreseen(np.arange(10.0), "conv1", 0.5)
        return session.add(Path(name), np.zeros((3, 4, 4)), foreseen, []).number


def numbers(run) -> list[int]:
    return [picture.number for picture in run.pictures]


def test_pictures_are_evaluated_in_the_order_they_came():
    session = Session(1)
    first, second = add(session), add(session)
    assert [numbers(session.next_run()) for _ in range(2)] == [[first], [second]]


def test_a_group_is_evaluated_as_soon_as_it_is_full():
    session = Session(4)
    six = [add(session) for _ in range(6)]
    assert numbers(session.next_run()) == six[:4]


def test_a_group_that_is_not_full_waits_for_what_is_on_its_way(monkeypatch):
    monkeypatch.setattr(sessions, "_SETTLED", 0.2)
    session, runs = Session(4), []
    first = add(session)
    with session.reading():  # a large file, say
        thread = threading.Thread(target=lambda: runs.append(session.next_run()))
        thread.start()
        time.sleep(0.4)
        assert runs == []
        second = add(session)
    thread.join(300)
    assert [numbers(run) for run in runs] == [[first, second]]


def test_no_more_than_so_many_may_wait():
    session = Session(1)
    for _ in range(MOST_WAITING):
        add(session)
    with pytest.raises(TooMany, match=f"^{MOST_WAITING} pictures wait, and no more may$"):
        add(session)
    session.next_run()
    add(session)


def test_what_waits_can_be_removed_and_what_runs_is_stopped():
    session, killed = Session(2), []
    waiting, one, two = (add(session) for _ in range(3))
    session.remove(waiting)
    run = session.next_run()
    assert numbers(run) == [one, two]
    run.stop = lambda: killed.append(True)
    session.remove(two)
    assert (run.stopped, killed) == (True, [True])
    assert session.picture(two).state == "encrypting"  # until whoever classifies sees the end
    with pytest.raises(KeyError):
        session.remove(waiting)


def test_what_failed_can_be_tried_again():
    session = Session(1)
    number = add(session)
    run = session.next_run()
    session.repeat(number)
    assert session.picture(number).state == "encrypting"  # it has not failed
    session.settle(run.pictures[0], FAILED, ServerError("the server was killed", "for want\nof memory"))
    assert session.picture(number).as_json()["error"] == {
        "message": "the server was killed",
        "hint": "for want\\nof memory",
    }
    session.repeat(number)
    assert session.picture(number).error is None
    assert numbers(session.next_run()) == [number]


def test_what_is_tried_again_lets_go_of_its_run():
    """As soon as no other picture names that; whoever listens is told."""
    session, heard = Session(2), []
    both = [add(session), add(session)]
    run = session.next_run()
    session.enter(run, FAILED)
    session.repeat(both[0])
    assert [shown["id"] for shown in session.listen(heard.append)["runs"]] == [run.number]
    session.repeat(both[1])
    assert ("run", run.number) in heard and session.look(("run", run.number))[0] == "gone"


def test_what_is_tried_again_waits_as_one_of_so_many():
    session = Session(1)
    failed = add(session)
    session.enter(session.next_run(), FAILED)
    for _ in range(MOST_WAITING):
        add(session)
    with pytest.raises(TooMany):
        session.repeat(failed)
    assert session.picture(failed).state == FAILED
    session.next_run()
    session.repeat(failed)
    assert session.picture(failed).state == WAITING


def test_whoever_listens_is_told_of_every_change_and_sees_it_as_it_is_by_then():
    session, heard = Session(1), []
    before = add(session, "before.png")
    assert [picture["name"] for picture in session.listen(heard.append)["pictures"]] == ["before.png"]
    run = session.next_run()
    assert heard == [("picture", before), ("run", run.number)]
    picture = run.pictures[0]
    picture.answer, picture.plain = (
        Classification.of(v, CIFAR10_CLASSES) for v in (np.arange(10.0)[::-1], np.arange(10.0))
    )
    session.settle(run.pictures[0], DONE)
    kind, fields = session.look(("picture", before))
    assert (kind, fields["class"], fields["plain_class"]) == ("picture", "Airplane", "Truck")
    assert fields["difference"] == 9.0
    session.remove(before)
    assert session.look(("picture", before)) == ("gone", {"id": before, "kind": "picture"})
    assert session.look(("run", run.number))[0] == "gone"
    session.forget(heard.append)
    count = len(heard)
    add(session)
    assert len(heard) == count


@pytest.mark.parametrize(
    "given, name",
    [
        ("a.png", "a.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\y.jpg", "y.jpg"),
        ("", "picture"),
        ("a\0/", "picture"),
    ],
)
def test_a_picture_is_called_by_a_name_and_no_path(given, name):
    assert str(name_of(given)) == name
    assert len(str(name_of("x" * 5000))) == 200
