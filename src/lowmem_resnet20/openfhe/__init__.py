"""OpenFHE: contexts, keys, ciphertexts, and the evaluator on them; `library` alone imports it."""
