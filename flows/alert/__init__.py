"""Alerts about flow runs: what failed, crashed, timed out, is late or waits for a person."""
