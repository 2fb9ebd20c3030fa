"""The secret key: the types that hold it, and the keys that are made from it.

The types here are the client's: no module that the server imports names them.
"""

from __future__ import annotations

from typing import Protocol, cast

from ..network.parameters import ParameterSet
from .context import clear_rotation_keys, make_context, power_of_two_rotations, set_up_bootstrapping
from .library import Ciphertext, Context, Plaintext, PublicKey

#: In the client's folder.
SECRET_KEY = "secret.key"


class PrivateKey(Protocol):
    """The secret key."""

    def GetKeyTag(self) -> str: ...


class KeyPair(Protocol):
    """A secret key and its public key."""

    @property
    def publicKey(self) -> PublicKey: ...

    @property
    def secretKey(self) -> PrivateKey: ...


class ClientContext(Context, Protocol):
    """A crypto context with the operations that encrypt, decrypt and make keys."""

    def KeyGen(self) -> KeyPair: ...

    def EvalMultKeyGen(self, secret: PrivateKey) -> None: ...

    def EvalRotateKeyGen(self, secret: PrivateKey, steps: list[int]) -> None: ...

    def EvalAutomorphismKeyGen(self, secret: PrivateKey, indices: list[int]) -> object: ...

    def EvalBootstrapKeyGen(self, secret: PrivateKey, slots: int) -> None: ...

    def GetExistingEvalAutomorphismKeyIndices(self, key_tag: str) -> set[int]: ...

    def Decrypt(self, ciphertext: Ciphertext, secret: PrivateKey) -> Plaintext: ...


def client_context(context: Context) -> ClientContext:
    """Return the same context, seen with all that it can do: which of that can be used, the keys at hand decide."""
    return cast(ClientContext, context)


def make_shared_bootstrapping_keys(context: ClientContext, set_: ParameterSet, secret: PrivateKey) -> None:
    """Make the keys that bootstrapping of any number of slots needs.

    They are conjugation, the pair of keys that enters and leaves the inner secret (which only fit
    together when made in one call), and, with transforms split into single butterfly layers, rotations by
    the powers of two.  dim1 does not matter to such transforms.
    """
    layers = len(power_of_two_rotations(set_))
    context.EvalBootstrapSetup([layers, layers], [0, 0], set_.full_slots, set_.correction_bits, False)
    context.EvalBootstrapKeyGen(secret, set_.full_slots)


def bootstrapping_rotations(set_: ParameterSet) -> dict[int, frozenset[int]]:
    """Return, by stage, the rotations that OpenFHE's bootstrapping does with this set's budgets and number of slots.

    They depend on ring, slots, budgets and dim1 alone, so OpenFHE is asked on a modulus as short as can
    be, where a key takes milliseconds.  The throw-away keys are removed.
    """
    context = client_context(make_context(set_, multiplicative_depth=2, large_digits=1))
    secret = context.KeyGen().secretKey
    steps = {pow(5, step, 2 * set_.ring_dimension): step for step in range(set_.full_slots)}
    result = {}
    for stage in range(1, len(set_.architecture.channels) + 1):
        clear_rotation_keys()
        slots = set_.stage_slots(stage)
        set_up_bootstrapping(context, set_, slots, precompute=False)
        context.EvalBootstrapKeyGen(secret, slots)
        indices = context.GetExistingEvalAutomorphismKeyIndices(secret.GetKeyTag())
        result[stage] = frozenset(steps[index] for index in indices if index in steps) - {0}
    clear_rotation_keys()
    context.ClearBootstrapPrecom()
    return result
