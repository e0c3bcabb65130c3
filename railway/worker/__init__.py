"""What the worker's container runs: the Prefect worker and the gateway, watched by one small program."""
