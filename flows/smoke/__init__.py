"""The smoke test: does a request through the gateway work, from the key to the trace.

`checks.run` needs no Prefect; `flow.py` is the deployment, `shared/scripts/test_setup.py` the same from a terminal.
"""
