"""LiteLLM with a database: the real gateway, and in front of it a stand-in for what it only has with Prisma's engines.

    client -> front: key looked up in Postgres, by its SHA-256 -> gateway with the master key -> answer, streams too
                     -> a row in LiteLLM_SpendLogs
    client -> front: /key/*, /model/*, /spend/logs, answered from LiteLLM's own tables

Models of `/model/new` are stored as LiteLLM stores them, every text sealed with the salt key, and answered by one of the
gateway's mocked models: what can be proven here is that they were stored, can be read with this salt key and no other, and
are served.
Answers and statuses: facts on LiteLLM's API, 1.2 to 1.4; source: LiteLLM 1.102.4.

Not there: teams, users, organizations, SSO, budgets other than a key's own, the admin UI's own API.
"""

from shared.sandbox.litellm_front.process import LiteLLMFront
from shared.sandbox.litellm_front.sealing import Unsealable, seal, unseal

__all__ = ["LiteLLMFront", "Unsealable", "seal", "unseal"]
