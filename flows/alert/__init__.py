"""Alerts about flow runs: what failed, crashed, timed out or is late."""
