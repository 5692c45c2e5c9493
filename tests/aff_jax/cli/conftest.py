"""Log the tracebacks of failed commands, which pytest prints if the test fails."""

import logging

import pytest


@pytest.fixture(autouse=True)
def logged_tracebacks(caplog):
    caplog.set_level(logging.DEBUG, logger="aff_jax")
