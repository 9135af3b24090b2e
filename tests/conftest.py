"""What holds for every test: no silent broadcasting between ranks, and no window for pictures."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def _rank_promotion_inside_gymnax(request):
    # gymnax's Swimmer subtracts a matrix from a vector; every other environment is strict itself.
    allowed = "Swimmer" in request.node.name
    with jax.numpy_rank_promotion("allow" if allowed else "raise"):
        yield
