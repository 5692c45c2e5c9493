"""The command `aff-jax`: one file per subcommand."""
