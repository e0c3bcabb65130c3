"""What runs in a container when it runs a program by the name that its image has for it (`redis-server`, `litellm`).

Each module reads what its original reads, arguments and variables, and becomes the real program, on the port of this machine.
Engines whose data has a life of its own (Postgres, ClickHouse, S3) are run by `engines.serve`.
"""
