"""What `aff-jax` can do: a file a command, each with its flags."""
