"""Answering a flow run that waits for a person: what a pressed button of Slack does, see `flows/runbook/answering.py`."""

from __future__ import annotations

from flows.runbook.answering import Answers, PrefectAnswers

__all__ = ["Answers", "PrefectAnswers"]
