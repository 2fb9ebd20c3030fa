"""A little of everything that OpenFHE does here, under every parameter set, to see whether a machine can."""

from __future__ import annotations

import numpy as np

from ..errors import PlanError
from ..network.parameters import PARAMETER_SETS
from ..network.resnet20 import plan
from ..openfhe.context import new_context
from ..openfhe.secret import client_context
from ..progress.display import Progress


def self_test(progress: Progress) -> None:
    """Build the context of every parameter set, and encrypt, compute and decrypt in it; keeps nothing.

    Errors: PlanError if OpenFHE refuses a set or a result is wrong.
    """
    progress.start("self-test")
    for set_ in PARAMETER_SETS.values():
        progress.step(f"set {set_.number}", f"context, log2 QP = {set_.log2_qp}")
        plan(set_)
        context = client_context(new_context(set_))
        pair = context.KeyGen()
        progress.step(f"set {set_.number}", "encrypt, multiply, decrypt")
        slots = set_.stage_slots(1)
        values = np.random.default_rng(set_.number).uniform(-1, 1, slots)
        level = set_.multiplicative_depth - 2
        plaintext = context.MakeCKKSPackedPlaintext(values, 1, level, None, slots)
        square = context.EvalMult(context.Encrypt(pair.publicKey, plaintext), plaintext)
        found = np.array(context.Decrypt(square, pair.secretKey).GetRealPackedValue())[:slots]
        worst = float(np.abs(found - values**2).max())
        if not worst < 1e-4:
            raise PlanError(f"parameter set {set_.number} computes with an error of {worst:.1e}")
    progress.close()
