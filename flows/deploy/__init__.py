"""Create a stack on Railway, or bring one back to what `railway/stack.py` says."""
