"""The server: evaluates the network on ciphertexts with evaluation keys alone."""
