import gymnax
import jax
import numpy as np
import pytest

import pgjax
from pgjax.environments import interface


def can_be_made(name):
    """Whether gymnax itself can: MNISTBandit downloads its data."""
    try:
        gymnax.make(name)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("name", interface.ids())
def test_two_updates_give_finite_numbers_or_one_clear_sentence(name):
    config = pgjax.Config(env=name, num_updates=2).replace(
        **{"sampler.num_trajectories": 4, "network.hidden_sizes": (16,)}
    )
    if name == "MNISTBandit-bsuite" and not can_be_made(name):
        with pytest.raises(ValueError, match="cannot be made here: it loads data"):
            pgjax.train(jax.random.key(0), config)
        return
    state, metrics = pgjax.train(jax.random.key(0), config)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(metrics))
    assert metrics.finite.all()
    assert (metrics.num_episodes == 4).all()
