"""Trainings that leave a folder: the host loop, checkpoints, sweeps, loggers."""

from pgjax.core.moved import former_module

__getattr__ = former_module("pgjax.runs", "pgjax.runs.host_loop")
