"""Ciphertexts of CKKS and the operations on them, by :mod:`..kernels`' methods.

From the bottom up:

    chain             the primes, their roots, and the file of them
    ring              what is computed from a chain once; automorphisms
    keynames          what keys are called
    keyswitch         switching keys, hoisting, ModUp and ModDown
    encoding, kept    slots to plaintext residues; plaintexts that are wanted again
    slottransform     a linear transform in baby and giant steps
    arithmetic        the operations that a refresh and the network's layers ask for
    ciphertext        ciphertexts, and those operations on them
"""
