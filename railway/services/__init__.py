"""What each service consists of: image, port, volume, variables. `railway/variants.py` puts them together."""
