"""The machines of the cluster that will do, and how many workers each has room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import PROGRAM, EnvironmentFault, on_one_line
from ..network.parameters import ParameterSet
from ..progress.display import format_bytes
from . import program
from .program import Program

#: Processors that a worker declares and uses, on a machine with fewer all of them.  More would stand idle in what a
#: picture does one after the other; with fewer each, as many pictures at once take twice the memory.
CORES = 2
#: For the first process on a machine to start, however busy it is.
_SECONDS_TO_ANSWER = 300


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    id, name: Ray's, and the host's;
    cores: of each of its workers;
    places: room for so many workers.
    """

    id: str
    name: str
    cores: int
    places: int

    def options(self, **resources: Any) -> dict[str, Any]:
        """Return Ray's options for a process on this machine and no other, not started again by itself."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(self.id, soft=False), **resources}


def find_nodes(set_: ParameterSet, memory_bytes: int) -> list[Node]:
    """Find the machines that have room for a worker, this program in the same version, and are alive.

    memory_bytes: what a worker declares; 0 for nothing.  Errors: EnvironmentFault if there are none, or one has another
    version.
    """
    import ray

    nodes = [node for facts in ray.nodes() if facts["Alive"] and (node := _node(facts, memory_bytes)).places]
    if not nodes:
        memory = f" and {format_bytes(memory_bytes)} of memory" if memory_bytes else ""
        raise EnvironmentFault(
            f"no machine of the cluster has a processor{memory} for parameter set {set_.number}",
            "ray start takes --num-cpus and --memory (bytes); ray status shows what there is",
        )
    check_programs([(node.name, Program(*found)) for node, found in zip(nodes, _ask(nodes), strict=True)])
    return nodes


def check_programs(found: Sequence[tuple[str, Program]]) -> None:
    """Raise EnvironmentFault, naming the first that has not, unless every machine has the program that runs here."""
    ours = Program(*program.find_program())
    for name, theirs in found:
        if theirs != ours:
            raise EnvironmentFault(
                f"{name} of the cluster has another {PROGRAM} than this machine: {theirs} instead of {ours}",
                "install the same version for the Python that ray start runs with, and start Ray again",
            )


def _node(facts: dict[str, Any], memory_bytes: int) -> Node:
    """Return a machine as Ray describes it, by what it has, whether or not others use it now."""
    resources = facts["Resources"]
    processors = int(resources.get("CPU", 0))
    cores = max(1, min(CORES, processors))
    places = processors // cores
    if memory_bytes:
        places = min(places, int(resources.get("memory", 0)) // memory_bytes)
    return Node(facts["NodeID"], facts["NodeManagerHostname"] or facts["NodeManagerAddress"], cores, places)


def _ask(nodes: Sequence[Node]) -> list[tuple[str, str]]:
    """Ask each machine which program it has."""
    import ray
    from ray import cloudpickle

    ask = ray.remote(num_cpus=0, max_retries=0)(program.find_program)
    cloudpickle.register_pickle_by_value(program)
    try:
        return ray.get([ask.options(**node.options()).remote() for node in nodes], timeout=_SECONDS_TO_ANSWER)
    except ray.exceptions.RayError as error:
        raise EnvironmentFault(f"a machine of the cluster does not answer: {on_one_line(error)}") from error
    finally:
        cloudpickle.unregister_pickle_by_value(program)
