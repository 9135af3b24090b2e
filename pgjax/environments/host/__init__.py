"""Environments that run in Python on the host, called back from compiled programs."""
