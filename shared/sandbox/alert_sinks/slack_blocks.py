"""What Slack's Block Kit allows in a message, and the complaints that Slack has about the rest.

Limits are those of Slack's reference (docs.slack.dev/reference/block-kit); the complaints are worded as in its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["problems", "texts"]

_BLOCKS = 50
_ID = 255

Block = Mapping[str, Any]


def problems(blocks: object, where: str = "/blocks") -> list[str]:
    """Complain about the blocks of a message.

    Args:
        blocks: from JSON. where: JSON pointer to them.
    Returns: a sentence each with the place, empty where there is nothing to complain about.
    """
    if not isinstance(blocks, list):
        return [_at("must be an array", where)]
    found = [_at(f"no more than {_BLOCKS} items allowed", where)] if len(blocks) > _BLOCKS else []
    for index, block in enumerate(blocks):
        found += _block(block, f"{where}/{index}")
    ids = [str(block["block_id"]) for block in blocks if isinstance(block, dict) and block.get("block_id")]
    found += [_at(f"`block_id` {one} already exists", where) for one in sorted({one for one in ids if ids.count(one) > 1})]
    return found


def texts(value: object) -> Iterator[str]:
    """Every text that blocks show, however deep."""
    if isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == "text" and isinstance(item, str):
                yield item
            else:
                yield from texts(item)


def _at(problem: str, where: str) -> str:
    return f"{problem} [json-pointer:{where}]"


def _block(block: object, where: str) -> list[str]:
    if not isinstance(block, dict):
        return [_at("must be an object", where)]
    check = _CHECKS.get(str(block.get("type")))
    if check is None:
        return [_at(f"unsupported type: {block.get('type')}", f"{where}/type")]
    return check(block, where) + _length(block.get("block_id", "id"), f"{where}/block_id", _ID)


def _length(text: object, where: str, limit: int) -> list[str]:
    if not isinstance(text, str):
        return [_at("must be a string", where)]
    if not text:
        return [_at("must be more than 0 characters", where)]
    return [_at(f"must be less than {limit + 1} characters", where)] if len(text) > limit else []


def _text(text: object, where: str, limit: int, types: tuple[str, ...] = ("plain_text", "mrkdwn")) -> list[str]:
    """Complain about a text object."""
    if not isinstance(text, dict):
        return [_at("must be a text object", where)]
    if text.get("type") not in types:
        return [_at(f"must be one of {', '.join(types)}", f"{where}/type")]
    found = _length(text.get("text"), f"{where}/text", limit)
    if "emoji" in text and text["type"] != "plain_text":
        found.append(_at("emoji is for plain_text only", f"{where}/emoji"))
    return found


def _items(block: Block, name: str, where: str, limit: int, check: Callable[[object, str], list[str]]) -> list[str]:
    """Complain about an array of 1 to `limit` items."""
    items, place = block.get(name), f"{where}/{name}"
    if not isinstance(items, list) or not items:
        return [_at("no fewer than 1 items allowed", place)]
    found = [_at(f"no more than {limit} items allowed", place)] if len(items) > limit else []
    return found + [one for index, item in enumerate(items) for one in check(item, f"{place}/{index}")]


def _header(block: Block, where: str) -> list[str]:
    return _text(block.get("text"), f"{where}/text", 150, ("plain_text",))


def _section(block: Block, where: str) -> list[str]:
    if "text" not in block and "fields" not in block:
        return [_at("missing required field: text or fields", where)]
    found = _text(block["text"], f"{where}/text", 3000) if "text" in block else []
    if "fields" in block:
        found += _items(block, "fields", where, 10, lambda item, place: _text(item, place, 2000))
    if "accessory" in block:
        found += _element(block["accessory"], f"{where}/accessory")
    return found


def _context(block: Block, where: str) -> list[str]:
    def one(item: object, place: str) -> list[str]:
        is_image = isinstance(item, dict) and item.get("type") == "image"
        return _image(item, place) if is_image else _text(item, place, 2000)

    return _items(block, "elements", where, 10, one)


def _actions(block: Block, where: str) -> list[str]:
    return _items(block, "elements", where, 25, _element)


def _element(item: object, where: str) -> list[str]:
    """Complain about what stands in an actions block or beside a section: buttons and pictures are what messages use."""
    if not isinstance(item, dict) or item.get("type") not in ("button", "image"):
        return [_at("unsupported element", where)]
    if item["type"] == "image":
        return _image(item, where)
    found = _text(item.get("text"), f"{where}/text", 75, ("plain_text",))
    if "url" in item:
        found += _url(item["url"], f"{where}/url")
    if item.get("style", "primary") not in ("primary", "danger"):
        found.append(_at("must be one of primary, danger", f"{where}/style"))
    return found + _length(item.get("action_id", "id"), f"{where}/action_id", _ID)


def _image(item: object, where: str) -> list[str]:
    if not isinstance(item, dict):
        return [_at("must be an object", where)]
    return _url(item.get("image_url"), f"{where}/image_url") + _length(item.get("alt_text"), f"{where}/alt_text", 2000)


def _url(url: object, where: str) -> list[str]:
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        return [_at("invalid url", where)]
    return _length(url, where, 3000)


_CHECKS: Mapping[str, Callable[[Block, str], list[str]]] = {
    "header": _header,
    "section": _section,
    "context": _context,
    "actions": _actions,
    "image": _image,
    "divider": lambda block, where: [],
    "markdown": lambda block, where: _length(block.get("text"), f"{where}/text", 12_000),
}
