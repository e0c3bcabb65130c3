"""Maintenance windows for people: open one before planned work, end it after, see which are open."""
