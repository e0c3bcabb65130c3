"""The stack on one machine, for the demo, the tests and looking around: real engines, real Prefect, believable data."""
