"""Learned values of states, V(s), or of actions, Q(s, a)."""
