"""Files that travel or stay: ciphertexts, key folders, and what an evaluation leaves to go on from."""
