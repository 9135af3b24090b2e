"""How parameters climb an objective."""
