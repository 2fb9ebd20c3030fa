"""OpenFHE: contexts, keys and ciphertexts in files, and the evaluator that computes on them."""
