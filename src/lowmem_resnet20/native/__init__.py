"""An evaluator of encrypted pictures that needs neither OpenFHE nor a secret: numpy and numba."""
