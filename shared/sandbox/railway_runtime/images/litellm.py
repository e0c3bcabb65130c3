"""`litellm`: the real gateway with the configuration that it is given, its models mocked, behind the front that has a database.

DATABASE_URL leads the front, not the gateway, which would want Prisma's engines. The gateway is the one that is installed,
whatever the image's tag; on the tag depend the version that the front says, and whether it starts without a master key, as with
the originals (facts: apps.md 1.2).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from shared.sandbox.litellm_front import LiteLLMFront
from shared.sandbox.litellm_gateway import LiteLLMGateway
from shared.sandbox.railway_runtime.catalogue import version
from shared.sandbox.railway_runtime.images.engines import serve
from shared.sandbox.railway_runtime.images.inside import Inside, die, say
from shared.sandbox.railway_runtime.images.options import option

_PORT = 4000
_NEEDS_KEY = (1, 106)
"""From this release on it refuses to start without a master key; before, it serves everybody."""

_NOT_FOR_THE_GATEWAY = {"DATABASE_URL", "DIRECT_URL", "STORE_MODEL_IN_DB", "PYTHONPATH", "PATH", "HOME", "TMPDIR", "PORT"}


def main(arguments: list[str]) -> int:
    """Run gateway and front; returns the exit status."""
    inside, variables = Inside.read(), os.environ
    number = tuple(int(part) for part in version(inside.image).split(".") if part.isdigit())
    master_key = variables.get("LITELLM_MASTER_KEY", "")
    if not master_key and number >= _NEEDS_KEY:
        die("LITELLM_MASTER_KEY is not set: refusing to start without authentication")
    file = option(arguments, "--config", "-c") or variables.get("CONFIG_FILE_PATH")
    if file is None:
        say("no --config and no CONFIG_FILE_PATH: defaults everywhere, no models, no callbacks")
    elif not Path(file).exists():
        die(f"Exception: Config file not found: {inside.seen(Path(file))}")
    template = Path(file) if file else inside.path("/app/empty.yaml")
    if file is None:
        template.write_text("{}\n")
    port = inside.port(int(option(arguments, "--port") or variables.get("PORT") or _PORT))
    database = variables.get("DATABASE_URL")
    gateway = LiteLLMGateway(
        inside.path("/gateway"),
        master_key=master_key,
        salt_key=variables.get("LITELLM_SALT_KEY") or master_key,
        redis=None,
        langfuse={name: value for name, value in variables.items() if name.startswith("LANGFUSE_")},
        models=[_mocked(model) for model in _models(template)],
        changes={"general_settings": {"database_url": None}},
        port=None if database else port,
        template=template,
        environment={name: value for name, value in variables.items() if name not in _NOT_FOR_THE_GATEWAY},
    )
    if not database:
        return serve(gateway)
    front = LiteLLMFront(
        inside.path("/front"),
        gateway,
        database_url=database,
        port=port,
        store_models=variables.get("STORE_MODEL_IN_DB", "").lower() == "true",
        version=version(inside.image),
    )
    return serve(front, logs=[front.front_log])


def _models(template: Path) -> list[Mapping[str, Any]]:
    try:
        configuration = yaml.safe_load(template.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        die(f"the configuration is no YAML: {' '.join(str(error).split())}")
    return list((configuration or {}).get("model_list") or [])


def _mocked(model: Mapping[str, Any]) -> dict[str, Any]:
    """The same name and the same price, without a provider."""
    name, parameters = str(model["model_name"]), model["litellm_params"]
    mocked = {"model": parameters["model"], "api_key": "none", "mock_response": f"pong, says {name}"}
    return {**model, "litellm_params": mocked}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
