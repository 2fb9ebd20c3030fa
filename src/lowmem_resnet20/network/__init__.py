"""The network as it is evaluated: layers, packing, levels, parameter sets; no encryption and no OpenFHE."""
