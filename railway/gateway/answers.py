"""What every route reads and says alike: a body that is not too long, an answer that says what is wrong."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

__all__ = ["body_of", "problem", "too_many"]


async def body_of(request: Request, most: int) -> bytes | None:
    """Read a body, or None when it is longer than `most` bytes, whatever its headers say."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > most:
            return None
    return body


def problem(status: HTTPStatus, sentence: str) -> Response:
    """An answer that says what is wrong."""
    return JSONResponse({"error": sentence}, status)


def too_many(sentence: str, seconds: float) -> Response:
    """An answer that says when to come again."""
    answer = problem(HTTPStatus.TOO_MANY_REQUESTS, f"{sentence}; try again in {seconds:.0f} s")
    answer.headers["Retry-After"] = f"{max(seconds, 1):.0f}"
    return answer
