"""What a registry answers, without HTTP's bytes: tokens, manifests, blobs, tags (the OCI distribution specification, 1.1)."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from shared.sandbox.railway_runtime.catalogue import Catalogue, digest, plain
from shared.sandbox.railway_runtime.manifests import documents

__all__ = ["Answer", "Answers"]

_HUB = "docker.io"
_SCOPE = re.compile(r"repository:(?P<repository>[^:]+):pull")
_PATH = re.compile(r"/v2/(?P<repository>.+)/(?P<what>manifests|blobs|tags)/(?P<which>[^/]+)")


@dataclass(frozen=True)
class Answer:
    """What is sent back."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


class Answers:
    """Answers requests out of a catalogue.

    Args:
        catalogue: what there is. url: where it listens, for where tokens are.
    Attributes:
        private: repositories, with their registry's name, that nobody sees without a login.
        page: tags that are listed at once, at most.
    """

    def __init__(self, catalogue: Catalogue, url: str) -> None:
        self._catalogue, self._url = catalogue, url
        self._tokens: dict[str, str] = {}
        self.private: set[str] = set()
        self.page = 100

    def forget_tokens(self) -> None:
        """Let every token be over, as they are after some minutes."""
        self._tokens.clear()

    def token(self, query: Mapping[str, str]) -> Answer:
        """Give out a token; for a repository that needs a login, as GitHub's registry does, none."""
        scope = _SCOPE.fullmatch(query.get("scope", ""))
        if scope is None or not query.get("service"):
            return _error(400, "UNSUPPORTED", "a token is for a service and a scope")
        if scope["repository"] in self.private and not scope["repository"].startswith(_HUB):
            return _error(403, "DENIED", "requested access to the resource is denied")
        token = secrets.token_urlsafe(24)
        self._tokens[token] = scope["repository"]
        return Answer(200, json.dumps({"token": token, "expires_in": 300}).encode())

    def answer(self, path: str, query: Mapping[str, str], authorization: str) -> Answer:
        """Answer a GET, or what is to be its HEAD."""
        found = _PATH.fullmatch(path)
        if found is None:
            return _error(404, "UNSUPPORTED", "this is no address of the registry")
        repository = found["repository"]
        if self._tokens.get(authorization.removeprefix("Bearer ")) != repository:
            return self._challenge(repository, "")
        tags = self._catalogue.tags(repository)
        if repository in self.private or (not tags and repository.startswith(f"{_HUB}/")):
            # Docker Hub says the same of what is gone and of what is private.
            return self._challenge(repository, ',error="insufficient_scope"')
        if not tags:
            return _error(404, "NAME_UNKNOWN", "repository name not known to registry")
        if found["what"] == "tags":
            return self._list(repository, tags, query)
        return self._content(repository, tags, found["which"], blob=found["what"] == "blobs")

    def _content(self, repository: str, tags: list[str], which: str, *, blob: bool) -> Answer:
        if which in tags and not blob:
            wanted = digest(f"{repository}:{which}")
            content = documents(plain(f"{repository}:{which}"))
        else:
            wanted = which
            content = {key: one for name in self._catalogue.names(repository) for key, one in documents(name).items()}
        if wanted not in content:
            return _error(404, "BLOB_UNKNOWN" if blob else "MANIFEST_UNKNOWN", "the registry does not have it")
        kind, document = content[wanted]
        return Answer(200, document, {"Docker-Content-Digest": wanted}, kind)

    def _list(self, repository: str, tags: list[str], query: Mapping[str, str]) -> Answer:
        last, asked = query.get("last", ""), query.get("n", "")
        rest = [tag for tag in tags if tag > last]
        count = min(int(asked), self.page) if asked.isdigit() and int(asked) else self.page
        headers = {}
        if len(rest) > count:
            after = quote(rest[count - 1], safe="")
            headers["Link"] = f'</v2/{repository}/tags/list?last={after}&n={count}>; rel="next"'
        return Answer(200, json.dumps({"name": repository, "tags": rest[:count]}).encode(), headers)

    def _challenge(self, repository: str, more: str) -> Answer:
        realm, scope = f'realm="{self._url}/token"', f'scope="repository:{repository}:pull"'
        answer = _error(401, "UNAUTHORIZED", "authentication required")
        challenge = f'Bearer {realm},service="registry.sandbox",{scope}{more}'
        return Answer(401, answer.body, {"WWW-Authenticate": challenge})


def _error(status: int, code: str, message: str) -> Answer:
    body: dict[str, Any] = {"errors": [{"code": code, "message": message, "detail": None}]}
    return Answer(status, json.dumps(body).encode())
