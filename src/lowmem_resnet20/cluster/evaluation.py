"""A whole run on a cluster; as a process of its own what :mod:`..server.worker` is here."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

from ..files.envelope import belonging
from ..files.keystore import SERVER, keys_set
from ..machine.files import os_errors
from ..machine.memory import resident_bytes
from ..network.weights import default_weights_path, load_weights
from ..progress.display import Progress
from ..server.request import Evaluation
from ..server.worker import main
from .crew import Crew, Task
from .joining import joined
from .keys import Keys
from .nodes import find_nodes
from .pictures import Picture


def evaluate_on_cluster(request: Evaluation, progress: Progress) -> list[dict[str, Any]]:
    """Evaluate on the machines of the cluster at ``request.ray``; returns what a worker prints of each picture.

    Each picture is evaluated by itself from its start: with ``resume`` those whose results are there are left alone.

    Errors: also UsageError, EnvironmentFault, ServerError of the cluster as a whole.
    """
    path = request.weights or default_weights_path()
    weights = load_weights(path)
    set_ = keys_set(request.folder / SERVER, request.set_number, weights.architecture)
    keys = Keys.of(request.folder / SERVER, set_)
    with os_errors("read", path):
        task = Task(set_, path.read_bytes(), request.anyway)
    progress.start(f"evaluating with parameter set {set_.number} on a cluster")
    ours = belonging(set_, keys.manifest.keys, weights)
    pictures = [Picture(job) for job in request.jobs]
    with ExitStack() as held:
        for picture in pictures:
            held.callback(picture.let_go)
            picture.begin(ours, resume=request.resume)
        if waiting := [picture for picture in pictures if picture.line is None]:
            _evaluate(request.ray, task, keys, waiting, progress)
    return [picture.line or {} for picture in pictures]


def _evaluate(address: str, task: Task, keys: Keys, pictures: list[Picture], progress: Progress) -> None:
    progress.step("cluster", "joining")
    with ExitStack() as held:
        held.enter_context(joined(address))
        nodes = find_nodes(task.set, task.memory_bytes)
        held.callback(keys.let_go)
        folders = keys.see_to(nodes, progress)
        crew = Crew(task, [(node, folders[node.id]) for node in nodes if node.id in folders], progress)
        progress.resident = lambda: crew.peak_bytes or resident_bytes()  # a worker's, once one has told
        crew.evaluate(pictures)


if __name__ == "__main__":
    sys.exit(main(evaluate_on_cluster))
