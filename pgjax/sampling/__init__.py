"""Policy + environment → trajectories."""
