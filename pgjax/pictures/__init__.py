"""Learning curves, heat maps, drawings of environments, GIFs."""
