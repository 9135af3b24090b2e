"""What holds for every test: no silent broadcasting between ranks, and no window for pictures."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
