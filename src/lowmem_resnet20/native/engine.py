"""The native engine: keys stage by stage, ciphertexts as bytes, the evaluator.

It holds what a server may: no secret, and no OpenFHE.  What a stranger sends is parsed within bounds (see
:mod:`.keys.openfhe_files`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from ..errors import CiphertextError, KeyFolderError
from ..machine.memory import return_freed_memory
from ..network.parameters import ParameterSet
from .evaluator import NativeEvaluator
from .kernels.compilation import complaints
from .kernels.order import ORDER
from .kernels.workers import AHEAD
from .keys.keyplan import key_plan, refresh_plan
from .keys.keys import MappedKeys, NativeKey, key_path
from .keys.openfhe_files import Form, read_ciphertext, read_form, write_ciphertext
from .readiness import make_ready
from .refresh.refresh import Refresh, prepare
from .ring.arithmetic import SCALE_TOLERANCE
from .ring.chain import CHAIN, Chain, read_chain_file
from .ring.ciphertext import RELINEARISATION_INDEX, Ciphertext, NativeArithmetic
from .ring.keynames import RELINEARISATION, automorphism


class _ByAutomorphism(Mapping[int, NativeKey]):
    """A stage's keys by the index that the arithmetic asks for."""

    def __init__(self, keys: MappedKeys, dimension: int) -> None:
        self._keys = keys
        self._names = {_index(name, dimension): name for name in keys}

    def __getitem__(self, index: int) -> NativeKey:
        return self._keys[self._names[index]]

    def __iter__(self) -> Iterator[int]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _index(name: str, dimension: int) -> int:
    return RELINEARISATION_INDEX if name == RELINEARISATION else automorphism(name, dimension)


class NativeEngine:
    """One key folder, opened.

    files: the names of those whose digests were checked; no other is opened.  Errors: KeyFolderError if the keys do not
    cover the plan of the set; EnvironmentFault if the processor will not do.
    """

    def __init__(self, folder: Path, set_: ParameterSet, files: Collection[str], compiling: Callable[[], None]) -> None:
        self.folder, self.set = folder, set_
        self._plan = key_plan(set_)
        _check_files(folder, self._plan, files)
        self.chain = read_chain_file(folder / CHAIN)
        _check_chain(self.chain, set_, folder / CHAIN)
        for stage in self._plan:
            keys = self._keys(stage)
            for name in keys:
                keys[name]  # opened, and so checked: an evaluation must not find out in the middle
        make_ready(compiling)
        self._stage: MappedKeys | None = None
        self.arithmetic = _arithmetic(self.chain, folder / CHAIN)
        self.arithmetic.ring.workers.ahead = AHEAD
        self.evaluator = NativeEvaluator(set_, self.arithmetic, self._enter_stage)

    def read(self, payload: bytes, path: Path) -> Ciphertext:
        """Read a ciphertext from a file's bytes, of which nothing is believed.

        Errors: CiphertextError.
        """
        try:
            file = read_ciphertext(payload, self.chain)
        except CiphertextError as error:
            raise CiphertextError(
                f"{path} holds no ciphertext of these parameters: {error.message}", error.hint
            ) from None
        towers = file.residues.shape[1]
        expected = self.arithmetic.scale_at(towers)
        sound = file.noise_degree == 1 and abs(file.scale / expected - 1) < SCALE_TOLERANCE
        if not sound or not 0 < file.slots <= self.set.full_slots or file.slots.bit_count() != 1:
            raise CiphertextError(f"{path} holds no ciphertext as this program leaves it")
        return Ciphertext(self.arithmetic.ring.from_openfhe(file.residues), towers, file.scale, file.slots)

    def form(self, payload: bytes) -> Form:
        """Return what a file begins with that was read."""
        return read_form(payload, self.chain)

    def write(self, x: Ciphertext, form: Form) -> bytes:
        """Return the bytes that OpenFHE, or :meth:`read`, makes the same ciphertext of."""
        residues = self.arithmetic.ring.to_openfhe(np.ascontiguousarray(x.residues[:, : x.towers]))
        level = len(self.chain.q) - x.towers
        return write_ciphertext(form, residues, slots=x.slots, level=level, noise_degree=1, scale=x.scale)

    def write_answer(self, x: Ciphertext, form: Form) -> bytes:
        """Return the bytes of the same values for the client, on no more primes than they need."""
        return self.write(self.evaluator.answer(x), form)

    def warnings(self) -> list[tuple[str, str]]:
        """Return what of the kernels' cache and of this program's variables cannot be had."""
        return complaints()

    def close(self) -> None:
        """Let go of keys, threads and memory: nothing can be read or evaluated after."""
        if "arithmetic" in vars(self):
            self._leave_stage()
            del self.arithmetic, self.evaluator

    def _leave_stage(self) -> None:
        """Let go of the stage's keys, and of a refresh's plaintexts."""
        self.arithmetic.forget_plaintexts()
        if self._stage is not None:
            self._stage.release()
        self._stage, self.arithmetic.keys = None, {}
        return_freed_memory()

    def _keys(self, stage: int) -> MappedKeys:
        return MappedKeys(self.folder, self._plan[stage], self.chain, ORDER)

    def _enter_stage(self, stage: int) -> Refresh[Ciphertext]:
        self._leave_stage()
        self._stage = self._keys(stage)
        self.arithmetic.keys = _ByAutomorphism(self._stage, self.chain.dimension)
        plan, slots = refresh_plan(self.set), self.set.stage_slots(stage)
        return Refresh(self.arithmetic, plan, prepare(plan, self.set.ring_dimension, slots))


def _arithmetic(chain: Chain, path: Path) -> NativeArithmetic:
    try:
        return NativeArithmetic(chain, {})
    except ValueError as error:  # primes out of bounds, or none
        raise KeyFolderError(f"{path} describes no chain to compute with: {error}") from error


def _check_files(folder: Path, plan: Mapping[int, Mapping[str, int]], files: Collection[str]) -> None:
    needed = {CHAIN, *(key_path(folder, name).name for keys in plan.values() for name in keys)}
    if missing := sorted(needed.difference(files)):
        raise KeyFolderError(f"{folder} lacks keys that the set needs: its manifest does not name {missing[0]}")


def _check_chain(chain: Chain, set_: ParameterSet, path: Path) -> None:
    sizes = [set_.first_modulus_bits] + [set_.scaling_bits] * set_.multiplicative_depth
    alike = chain.dimension == set_.ring_dimension and chain.digits == set_.large_digits
    if not alike or len(chain.q) != len(sizes) or len(chain.p) != set_.special_towers:
        raise KeyFolderError(f"{path} is not of parameter set {set_.number}")
    if any(abs(prime.value.bit_length() - bits) > 1 for prime, bits in zip(chain.q, sizes, strict=True)):
        raise KeyFolderError(f"{path} has primes of other sizes than parameter set {set_.number}")
