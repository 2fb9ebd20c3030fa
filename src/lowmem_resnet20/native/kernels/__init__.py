"""Kernels: polynomials modulo primes, in vector instructions; nothing here knows what is computed with them.

From the bottom up:

    memory            arrays that start on cache lines
    threads           how many processors the work may use
    compilation       where compiled code is kept, and what it is compiled for
    jobs              jobs that threads take one by one, and whether all are done
    workers           calls of kernels, shared out among threads
    intrinsics        vectors of integers that fill a register, traced into LLVM: all that is generated
    residues          arithmetic modulo one prime: below 2^30 in uint32, of 60 bits in uint64; sums of products
    order             the order of residues in memory
    ntt               the negacyclic number-theoretic transform
    bases             from one set of primes to another
    elementwise       sums of products of whole polynomials: inner products with keys and all else
    fourier           slots to a plaintext's coefficients, in float64
    polynomials       all of these as methods on arrays of polynomials
"""
