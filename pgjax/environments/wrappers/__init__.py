"""Environments around environments: one file each."""
