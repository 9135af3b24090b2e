"""What one asks of a policy or an environment: how good, how noisy, how exact, how large."""
