"""Estimators: the weights w_t of the scores, from trajectories and a critic's values."""
