"""What `jax.grad` differentiates, to be maximised."""
