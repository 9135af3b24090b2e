"""Observation → network → head → distribution of actions, with a memory or not."""

from pgjax.core.moved import former_module

__getattr__ = former_module("pgjax.policies", "pgjax.policies.policy")
