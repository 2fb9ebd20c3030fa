"""Classify a picture the server never sees: ResNet20 under RNS-CKKS with a low memory footprint."""

__version__ = "0.1.0"
