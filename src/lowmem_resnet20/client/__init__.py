"""The client: keys, encryption, decryption; the only package that reads the secret key."""
