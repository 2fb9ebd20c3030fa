"""The machine: files written whole or not at all, interruption, memory."""
