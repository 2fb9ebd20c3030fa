"""The native evaluator: CKKS on residues, in numpy and numba, without OpenFHE and without any secret.

It computes what OpenFHE 1.6.1 computes, residue for residue, with vector instructions.  From the bottom up:

    kernels/          polynomials modulo primes: transforms, sums of products, other primes
    ring/             ciphertexts, and the operations on them
    refresh/          the refresh, on ciphertexts and in the clear
    keys/             keys, and OpenFHE's files
    readiness         every kernel compiled before work begins
    evaluator         what the network's layers ask for
    engine            a key folder, opened
    trial             what an evaluation would take here, from operations on random numbers

Polynomials are in evaluation form, towers x N, in the order that :mod:`.kernels.order` describes: uint32 modulo the
primes of Q, uint64 modulo the special primes of P.
"""

from ..machine.numbasettings import shield

shield()
