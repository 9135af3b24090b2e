"""Ascents: they choose the steps by which parameters climb an objective."""
