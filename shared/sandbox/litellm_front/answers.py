"""Errors in LiteLLM's shape: `{"error": {"message", "type", "param", "code"}}`, the code as text."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

__all__ = ["Refused"]


class Refused(Exception):
    """A request is not served.

    Args:
        status: HTTP. kind: LiteLLM's own name for the reason. param: the parameter it is about.
    """

    def __init__(self, status: int, message: str, kind: str, param: str = "None") -> None:
        super().__init__(message)
        self.status, self.kind, self.param = status, kind, param

    def response(self) -> Response:
        """As it is sent."""
        said = {"message": str(self), "type": self.kind, "param": self.param, "code": str(self.status)}
        return JSONResponse({"error": said}, self.status)
