"""Where alerts go in the sandbox: one small server that behaves as Slack, Discord, PagerDuty, a webhook and healthchecks.io do.

    with AlertSinks() as sinks:
        ...                                   # environment variables: sinks.environment()
        sinks.disturb("slack", "rate-limit", times=2, retry_after=3)
        assert sinks.received("pagerduty")[0].payload["event_action"] == "trigger"

It validates what comes as the real services do, keeps what stands there now (`sinks.slack.messages`, `sinks.pagerduty.alerts`,
...) and every request (`received`, `exchanges`), and can be told to answer 429 or 500, to hang, or to cut connections.
"""

from shared.sandbox.alert_sinks.exchange import Received, Request
from shared.sandbox.alert_sinks.pagerduty import PagerDutyAlert
from shared.sandbox.alert_sinks.server import AlertSinks, Disturbance, Kind, SinkKeys

__all__ = ["AlertSinks", "Disturbance", "Kind", "PagerDutyAlert", "Received", "Request", "SinkKeys"]
