"""OpenFHE."""
