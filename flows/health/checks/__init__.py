"""The checks of a sweep: a coroutine for each service, which writes what it sees into `Findings`.

None of them raises for what a service does or fails to do, none keeps anything open, none imports boto3 or Prefect. What makes
a service useless is down, everything else degraded; a wrong password of ours is unknown.
"""
