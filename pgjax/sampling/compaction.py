"""Few of n trajectories by themselves: those that still run, and their results put back."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgjax.core.types import Array, PyTree


class Compaction(NamedTuple):
    """Slots for at most w chosen ones of n trajectories.

    Attributes:
      members: int32[w]; the trajectory in each slot, in their order; n in a slot without one.
      slots: int32[n]; the slot of each trajectory; any of them where it has none.
      chosen: bool[n]; whether the trajectory has a slot.
    """

    members: Array
    slots: Array
    chosen: Array

    @classmethod
    def of(cls, chosen: Array, width: int) -> "Compaction":
        """Slots for those whose flag, bool[n], is true: the first `width`.

        >>> flags = jnp.array([False, True, False, True])
        >>> Compaction.of(flags, 3).members
        Array([1, 3, 4], dtype=int32)
        """
        number = jnp.cumsum(chosen, dtype=jnp.int32)
        # The trajectory in slot k is the first at which k + 1 of them are chosen.
        members = jnp.searchsorted(number, jnp.arange(1, width + 1, dtype=jnp.int32))
        slots = jnp.clip(number - 1, 0, width - 1)
        return cls(members.astype(jnp.int32), slots, chosen & (number <= width))

    @property
    def filled(self) -> Array:
        """bool[w]; whether there is a trajectory in the slot."""
        return self.members < len(self.chosen)

    def gather(self, tree: PyTree) -> PyTree:
        """The chosen ones' leaves: [n, …] to [w, …]; those of the last in a slot without one."""
        return jax.tree.map(lambda x: x[jnp.minimum(self.members, len(x) - 1)], tree)

    def spread(self, tree: PyTree, others: PyTree) -> PyTree:
        """`tree`, [w, …], of the slots at their trajectories, and `others`, [n, …], elsewhere."""

        def spread_leaf(x: Array, other: Array) -> Array:
            chosen = self.chosen.reshape(self.chosen.shape + (1,) * (x.ndim - 1))
            return jnp.where(chosen, x[self.slots], other)

        return jax.tree.map(spread_leaf, tree, others)

    def write(self, stored: PyTree, first_row: Array, rows: PyTree) -> PyTree:
        """`stored`, [T, n, …], with the slots' next rows, [K, w, …], at their trajectories."""
        starts = jnp.stack([jnp.broadcast_to(first_row, self.members.shape), self.members], axis=1)

        def write_leaf(x: Array, new: Array) -> Array:
            # A window is K rows of one trajectory; those of trajectory n, beyond the last, drop.
            windows = jax.lax.ScatterDimensionNumbers((0, *range(2, x.ndim)), (1,), (0, 1))
            drop = jax.lax.GatherScatterMode.FILL_OR_DROP
            return jax.lax.scatter(x, starts, new, windows, unique_indices=True, mode=drop)

        return jax.tree.map(write_leaf, stored, rows)
