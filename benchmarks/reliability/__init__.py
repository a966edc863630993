"""Faults that users of the peers meet, provoked for real in the peers and in fastinfer."""
