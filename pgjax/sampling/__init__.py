"""Samplers: trajectories of a policy in an environment."""
