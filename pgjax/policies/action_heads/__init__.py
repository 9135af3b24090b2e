"""Heads: the distributions over each class of action spaces, one file for each."""
