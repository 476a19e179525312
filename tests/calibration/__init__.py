"""Simulated studies whose truth is known: how often verdicts are wrong, and what looks cost. `make calibration`."""
