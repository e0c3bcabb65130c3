"""What an incident looks like in Slack: Block Kit (docs.slack.dev/reference/block-kit), and plain text for notifications."""

from __future__ import annotations

from typing import Any

from blocks.alerts.base import Notice, body, clip, headline, is_over

__all__ = ["blocks", "has_id", "text"]

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
