"""Tuning: a search for a config, whose trials are trained side by side."""
