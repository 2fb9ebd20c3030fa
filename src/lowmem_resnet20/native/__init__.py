"""The native evaluator's arithmetic: CKKS on residues, in numpy and numba, without OpenFHE and without any secret.

It computes what OpenFHE 1.6.1 computes, residue for residue, with vector instructions.  From the bottom up:

    memory            arrays that start on cache lines
    threads           how many processors the work may use, and work shared out among them
    kernelcache       compiled code on disk
    compilation       kernels compiled once, and what the processor must be able to do
    intrinsics        vectors of eight lanes, traced into LLVM: all that is generated
    residues          arithmetic modulo one prime, of at most 37 bits (float64) or of 60 bits (uint64)
    order             the order of residues in memory
    ntt               the negacyclic number-theoretic transform
    bases             from one set of primes to another
    elementwise       sums and products of whole polynomials, inner products with keys
    chain             the primes, their roots, and the file of them
    ring              tables of a chain's primes; automorphisms
    keyswitch         switching keys, hoisting, ModUp and ModDown
    encoding, kept    slots to plaintext residues; plaintexts that are wanted again

The refresh is written once against what it asks of ciphertexts, and runs on them and in the clear:

    slottransform     a linear transform in baby and giant steps
    arithmetic        the operations that it asks for
    embedding         between slots and coefficients, by definition
    transforms        matrices on slots in baby and giant steps; slots to coefficients and back
    series            polynomials of a ciphertext
    exponential       what forgets the multiples of the modulus
    refreshplan       what is chosen of a refresh
    refresh           the refresh
    noise, clear      arithmetic in the clear, with or without noise
    refreshkeys       the keys that a refresh uses

What an evaluation is made of:

    ciphertext        ciphertexts, and those operations on them
    readiness         every kernel compiled before work begins
    archive, openfhe_objects, openfhe_files
                      OpenFHE's files, read within bounds and written: syntax, parts, wholes
    keys, keyplan     keys in their own form; which a set needs, and at how many towers
    evaluator         what the network's layers ask for
    engine            a key folder, opened

Polynomials are in evaluation form, towers x N, in the order that :mod:`.kernels.order` describes: float64 modulo the primes of
Q, uint64 modulo the special primes of P.
"""

from ..machine.numbasettings import shield

shield()
