"""The refresh, written once against :mod:`..ring.arithmetic`: it runs on ciphertexts and in the clear.

From the bottom up:

    embedding         between slots and coefficients, by definition
    transforms        matrices on slots in baby and giant steps; slots to coefficients and back
    series            polynomials of a ciphertext
    exponential       what forgets the multiples of the modulus
    refresh           the refresh, by a :class:`...network.refreshplan.RefreshPlan`
    noise, clear      arithmetic in the clear, with or without noise
"""
