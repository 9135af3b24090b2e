"""Objectives: functions that `jax.grad` differentiates, to be maximised."""
