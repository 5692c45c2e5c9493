"""Configs: `get_config()` files that hold what differs from `configs/base.py`."""
