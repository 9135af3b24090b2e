"""The weights of the scores: trajectories, and what a critic makes of them, to w_t."""
