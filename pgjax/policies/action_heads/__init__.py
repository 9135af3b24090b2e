"""What a policy must know of each action space: one file for each kind."""
