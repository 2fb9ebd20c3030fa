"""A page for this machine's browser: pictures are encrypted and decrypted here, evaluated here or by a service."""
