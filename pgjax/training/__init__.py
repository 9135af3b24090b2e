"""Training: a config, its parts bound to each other, and `init`, `update`, `train`."""

from pgjax.core.moved import former_module

__getattr__ = former_module("pgjax.training", "pgjax.training.training")
