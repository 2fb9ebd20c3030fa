#!/usr/bin/env python
"""Where the time of an evaluation goes, by kind of operation: refresh, products, encoding, rotations, loading.

    scripts/operations.py PICTURE SET [SET ...] [--keys DIR] [--record]

The server runs in this process, with every operation of its evaluator timed; of the native one also the parts
of a refresh, each with its share of the bandwidth limit: the time in which the machine copies as many bytes as the part
must at least read and write, for keys, encoded vectors and ciphertexts once, by the time it took.  Here each operation
ends before the next is prepared, so that the whole takes longer than it does otherwise.  Minutes for each set, whose
keys must be there and name its evaluator; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lowmem_resnet20.client import Client
from lowmem_resnet20.files.keystore import SERVER, Manifest, keys_set
from lowmem_resnet20.model.picture import read_picture
from lowmem_resnet20.network.engines import NATIVE
from lowmem_resnet20.network.parameters import ParameterSet
from lowmem_resnet20.network.weights import Weights, default_weights_path, load_weights
from lowmem_resnet20.progress.display import Progress
from lowmem_resnet20.server.engine import Engine
from lowmem_resnet20.server.server import Server, open_engine
from measurements import record, rows_of, table
from origin import OF_AN_EVALUATION, Origin, stamp

SECTION = "operations"

#: The kind of each of an evaluator's methods that takes time.
KINDS = {
    "bootstrap": "refresh",
    "bootstrap_function": "refresh",
    "chebyshev": "Chebyshev ReLU",
    "products": "products",
    "_encode": "encoding",
    "rotate": "rotations",
    "enter_stage": "loading",
    "lower": "rescaling",
    "add": "additions",
    "add_vector": "additions",
}
#: The parts of the native refresh, or of the arithmetic; what is left beside them is the exponential.
EXPONENTIAL = "refresh: exponential"
PARTS = {
    "slots_to_coefficients": "refresh: slots to coefficients",
    "raise_modulus": "refresh: modulus raise",
    "coefficients_to_slots": "refresh: coefficients to slots",
    "fourier": "refresh: series",
}
#: The native arithmetic's operations that move ciphertexts.
MOVING = (
    "rescale", "add", "add_constant", "add_vector", "combination", "weighted_sum",
    "sum_of_products", "rotate", "add_rotated", "add_conjugate", "transform", "raise_modulus",
)  # fmt: skip


@dataclass
class Stopwatch:
    """Seconds, calls and least bytes moved, by kind; an operation inside another counts for itself alone."""

    seconds: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    _kinds: list[str] = field(default_factory=list)
    _inner: list[float] = field(default_factory=lambda: [0.0])
    _moving: bool = False

    def watch(self, thing: Any, kinds: dict[str, str]) -> None:
        """Time the methods of ``thing`` that are named."""
        for method, kind in kinds.items():
            if hasattr(thing, method):
                setattr(thing, method, self._timed(getattr(thing, method), kind))

    def watch_bytes(self, arithmetic: Any) -> None:
        """Count what the native arithmetic's operations move."""
        for method in MOVING:
            setattr(arithmetic, method, self._counted(getattr(arithmetic, method), arithmetic))

    def _timed(self, function: Callable, kind: str) -> Callable:
        def timed(*args: Any, **words: Any) -> Any:
            self._inner.append(0.0)
            self._kinds.append(kind)
            started = time.monotonic()
            result = function(*args, **words)
            elapsed = time.monotonic() - started
            self._kinds.pop()
            self.seconds[kind] += elapsed - self._inner.pop()
            self.calls[kind] += 1
            self._inner[-1] += elapsed
            return result

        return timed

    def _counted(self, function: Callable, arithmetic: Any) -> Callable:
        """An operation inside another moves what the outer one is counted for."""

        def counted(*args: Any, **words: Any) -> Any:
            outermost, self._moving = not self._moving, True
            result = function(*args, **words)
            if outermost:
                self._moving = False
                kind = self._kinds[-1] if self._kinds else ""
                self.bytes[kind] += least_bytes(function.__name__, args, result, arithmetic)
            return result

        return counted


def least_bytes(operation: str, args: tuple, result: Any, arithmetic: Any) -> int:
    """Return the bytes that an operation must read and write: ciphertexts, keys, encoded vectors of a transform."""
    ring, n = arithmetic.ring, arithmetic.ring_dimension
    read = {id(x): x for x in ciphertexts(args)}.values()
    written = [x for x in ciphertexts((result,)) if id(x) not in set(map(id, read))]
    towers = min((x.towers for x in read), default=0)
    moved = sum(2 * 4 * x.towers * n for x in (*read, *written))
    extended = 4 * towers + 8 * len(ring.p)  # bytes a coefficient modulo QP
    key = 2 * -(-towers // ring.digit_towers) * extended * n
    if operation == "rotate":
        return moved + key * len({step for step in args[1] if step % (n // 2)})
    if operation in ("add_rotated", "add_conjugate", "sum_of_products"):
        return moved + key
    if operation == "transform":
        steps = [step for step in (*args[1].babies, *args[1].giants) if step]
        vectors = sum(len(vector) for vector in args[1].vectors.values())
        return moved + key * len(steps) + 2 * vectors * extended
    return moved


def ciphertexts(things: Iterable[Any]) -> list[Any]:
    """Return those among arguments, and in lists and tuples of them."""
    found = []
    for thing in things:
        if isinstance(thing, (list, tuple)):
            found += ciphertexts(thing)
        elif hasattr(thing, "towers") and hasattr(thing, "residues"):
            found.append(thing)
    return found


def bandwidth(threads: int, megabytes: int = 256) -> float:
    """Return the bytes a second, read and written, that as many threads copy between large arrays; the best of five."""
    sources = [np.ones(megabytes << 17) for _ in range(threads)]
    targets = [np.ones(megabytes << 17) for _ in range(threads)]
    best = np.inf
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(5):
            started = time.monotonic()
            list(pool.map(np.copyto, targets, sources))
            best = min(best, time.monotonic() - started)
    return 2 * threads * sources[0].nbytes / best


def open_watched(watch: Stopwatch, folder: Path, set_: ParameterSet, manifest: Manifest, progress: Progress) -> Engine:
    """Open the engine of the folder, watched."""
    engine = open_engine(folder, set_, manifest, progress)
    evaluator: Any = engine.evaluator
    if set_.engine == NATIVE:
        load_stage = evaluator._load_stage

        def load_watched(stage: int) -> Any:
            refresh = load_stage(stage)
            watch.watch(refresh, PARTS)
            return refresh

        evaluator._load_stage = load_watched
        evaluator.arithmetic.ring.workers.ahead = 0  # no operation is handed on to the next
        watch.watch(evaluator.arithmetic._encoder, {"encode": "encoding"})
        watch.watch_bytes(evaluator.arithmetic)
        watch.watch(evaluator.arithmetic, PARTS)
        watch.watch(evaluator, KINDS | {"bootstrap_function": EXPONENTIAL})
    else:
        watch.watch(evaluator, KINDS)
    return engine


@dataclass(frozen=True)
class Spent:
    """On a kind of operation.  share: of the bandwidth limit, of the parts of a native refresh."""

    seconds: float
    calls: int
    share: float | None = None


def measure(
    set_: ParameterSet, folder: Path, pixels: np.ndarray, weights: Weights, bytes_per_second: float
) -> dict[str, Spent]:
    """Return what was spent on each kind, and on the whole."""
    watch = Stopwatch()
    with Client(folder, weights, set_=set_) as client:
        sent = client.encrypt(pixels)
    started = time.monotonic()
    with Server(folder, weights, set_=set_, opening=partial(open_watched, watch)) as server:
        server.evaluate(sent)
        total = time.monotonic() - started
    order = dict.fromkeys((*PARTS.values(), EXPONENTIAL, *KINDS.values()))
    spent = {kind: _spent(watch, kind, bytes_per_second) for kind in order if watch.calls[kind]}
    rest = total - sum(watch.seconds.values())
    return spent | {"checking keys, files": Spent(rest, 1), "in all": Spent(total, 1)}


def _spent(watch: Stopwatch, kind: str, bytes_per_second: float) -> Spent:
    seconds = watch.seconds[kind]
    moved = watch.bytes[kind] if kind.startswith("refresh: ") else 0
    return Spent(seconds, watch.calls[kind], moved / bytes_per_second / seconds if moved else None)


def rows_for(figures: dict[str, dict[str, Spent]], copied: float, taken: dict[str, Any]) -> dict[str, Any]:
    """Return them as the file of measurements has them.  copied: bytes a second; taken: when."""
    return {
        name: {"spent": {kind: asdict(s) for kind, s in spent.items()}, "bytes_per_second": copied} | taken
        for name, spent in figures.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("sets", type=int, nargs="+")
    parser.add_argument("--keys", type=Path, default=Path("keys"))
    parser.add_argument("--record", action="store_true", help="write the figures down, see scripts/measurements.py")
    args = parser.parse_args()
    from lowmem_resnet20.native.kernels.threads import available_processors

    threads, origin, taken = available_processors(), Origin.here(OF_AN_EVALUATION), stamp()
    copied, weights, figures = bandwidth(threads), load_weights(default_weights_path()), {}
    for number in args.sets:
        folder = args.keys / f"exp{number}"
        set_ = keys_set(folder / SERVER, number)
        figures[f"set {number}, {set_.engine}"] = measure(set_, folder, read_picture(args.picture), weights, copied)
    rows = rows_for(figures, copied, taken)
    print(f"{threads} threads copy {copied / 1e9:.1f} GB a second, read and written\n")
    print(table(SECTION, {SECTION: {name: row | {"origin": asdict(origin)} for name, row in rows.items()}}), end="")
    if args.record:
        record(SECTION, origin, rows_of(SECTION, origin) | rows)


if __name__ == "__main__":
    main()
