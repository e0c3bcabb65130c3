"""What an incident looks like in Slack: Block Kit (docs.slack.dev/reference/block-kit), and plain text for notifications."""

from __future__ import annotations

from typing import Any

from blocks.alerts.base import Notice, body, clip, headline, is_over

__all__ = ["ACKNOWLEDGE", "APPROVE", "REJECT", "RUNBOOK", "WAITING", "blocks", "buttons", "has_id", "text"]

ACKNOWLEDGE, RUNBOOK, APPROVE, REJECT = "stack-acknowledge", "stack-runbook", "stack-approve", "stack-reject"
"""What a pressed button is called when Slack tells of it; its value is the incident's key, or the flow run's id."""
WAITING = ("Paused", "Suspended")
"""States of a flow run that waits for a person."""

_HEADER, _SECTION, _CONTEXT = 150, 3000, 2000
_MARKS = {"warning": ":large_yellow_circle:", "error": ":large_orange_circle:", "critical": ":red_circle:"}


def text(notice: Notice) -> str:
    """The message as one text: what a phone shows on its locked screen."""
    return clip(_escaped(f"{headline(notice)}\n{body(notice)}"), _SECTION)


def blocks(notice: Notice, *, block_id: str) -> list[dict[str, Any]]:
    """The message as blocks.

    Args:
        block_id: of its first block, at most 255 characters; comes back with the channel's history, and tells the message.
    """
    found: list[dict[str, Any]] = [
        {
            "type": "header",
            "block_id": block_id,
            "text": {"type": "plain_text", "text": clip(f"{_mark(notice)} {headline(notice)}", _HEADER), "emoji": True},
        },
        {"type": "section", "text": {"type": "mrkdwn", "text": clip(_escaped(body(notice)), _SECTION)}},
    ]
    facts = [f"*Severity* {notice.severity}", f"*Since* {notice.opened_at:%Y-%m-%d %H:%M} UTC"]
    if notice.aspect:
        facts.insert(0, f"*Check* {_escaped(notice.aspect)}")
    if notice.closed_at is not None:
        facts.append(f"*Until* {notice.closed_at:%Y-%m-%d %H:%M} UTC")
    found.append({"type": "context", "elements": [{"type": "mrkdwn", "text": clip(fact, _CONTEXT)} for fact in facts]})
    if links := notice.links.named():
        lines = " · ".join(f"<{url}|{words}>" for words, url in links)
        found.append({"type": "section", "text": {"type": "mrkdwn", "text": clip(lines, _SECTION)}})
    return found


def buttons(notice: Notice) -> list[dict[str, Any]]:
    """The block with what may be done about it from here; empty where there is nothing."""
    if notice.kind in ("opened", "reminded", "escalated"):
        return [
            _actions(
                _button(ACKNOWLEDGE, "Acknowledge", notice.dedup_key), _button(RUNBOOK, "Run the runbook", notice.dedup_key)
            )
        ]
    if notice.kind == "failed-run" and notice.aspect in WAITING:
        run = notice.dedup_key.split("/")[-2]  # <stack>/run.../<id>/<state>
        approve = {**_button(APPROVE, "Approve", run), "style": "primary", "confirm": _sure(notice)}
        return [_actions(approve, {**_button(REJECT, "Reject", run), "style": "danger"})]
    return []


def _actions(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"type": "actions", "elements": list(elements)}


def _button(action: str, words: str, value: str) -> dict[str, Any]:
    return {"type": "button", "action_id": action, "text": {"type": "plain_text", "text": words}, "value": value}


def _sure(notice: Notice) -> dict[str, Any]:
    """The question that Slack asks before it tells of the press."""
    question = f"Approve {notice.service} in {notice.stack}? It then changes what it says it will."
    return {
        "title": {"type": "plain_text", "text": "Approve"},
        "text": {"type": "plain_text", "text": clip(question, 300)},
        "confirm": {"type": "plain_text", "text": "Approve"},
        "deny": {"type": "plain_text", "text": "Not yet"},
    }


def has_id(message: dict[str, Any], block_id: str) -> bool:
    """Whether a message from the channel's history begins with the block of this id."""
    return any(block.get("block_id") == block_id for block in message.get("blocks") or [])


def _mark(notice: Notice) -> str:
    if is_over(notice):
        return ":large_green_circle:"
    return ":large_blue_circle:" if notice.kind == "acknowledged" else _MARKS[notice.severity]


def _escaped(raw: str) -> str:
    """The three characters that Slack reads as markup (links, mentions of everybody)."""
    return raw.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
