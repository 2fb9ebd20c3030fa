"""A page for this machine's browser: pictures are encrypted here, evaluated here or by a service, and decrypted here."""
