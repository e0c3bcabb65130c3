"""The systems a stack consists of, as typed Prefect blocks: where each is, and how to speak to it.

Import the module you need (`from blocks.postgres import PostgresServer`): importing all of them costs seconds.
"""
