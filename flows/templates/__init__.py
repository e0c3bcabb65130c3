"""Prepare a project that a Railway template can be made of."""
