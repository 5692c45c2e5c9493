"""Configs: files with a `get_config()` that sets only what differs from `configs/base.py`."""
