"""Policies: observation → network → head → distribution of actions, with or without a memory."""

from pgjax.core.moved import former_module

__getattr__ = former_module("pgjax.policies", "pgjax.policies.policy")
