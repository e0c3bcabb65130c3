"""The causes, one module for each kind of them."""
