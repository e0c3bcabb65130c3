"""Redis: Langfuse's queues and LiteLLM's cache. It is never backed up; after a restore of Langfuse it starts empty."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field, SecretStr
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from blocks.errors import AccessDenied, ServiceError, SettingsError


class RedisServer(Block):
    """A Redis (or Valkey) server.

    Attributes:
        url: redis://[user]:password@host:port/0 (rediss:// for TLS).
        timeout: seconds to wait for a connection or an answer.

    Example:
        ```python
        redis = RedisServer.load("mystack")
        redis.check()
        ```
    """

    _block_type_name = "Redis Server"
    _block_type_slug = "redis-server"
    _description = "The Redis of a stack: Langfuse's queues and LiteLLM's cache."

    url: SecretStr = Field(description="redis://:password@host:port/0")
    timeout: float = Field(default=5.0, gt=0, description="Seconds to wait for a connection or an answer")

    def client(self) -> Redis:
        """Return a client; it connects at its first command.

        Raises:
            SettingsError: the URL is none.
        """
        try:
            return Redis.from_url(self.url.get_secret_value(), socket_timeout=self.timeout, socket_connect_timeout=self.timeout)
        except ValueError:
            raise SettingsError("redis: REDIS_URL is not redis://[:password@]host:port/0") from None

    def check(self) -> None:
        """See that it answers, and that it never throws queue jobs away.

        Raises:
            AccessDenied: the password is wrong.
            ServiceError: it does not answer.
            SettingsError: it evicts keys, which loses Langfuse's jobs and locks (langfuse#15509).
        """
        with self.client() as client:
            try:
                client.ping()
                policy = str(client.info("memory").get("maxmemory_policy", "unknown"))
            except AuthenticationError:
                raise AccessDenied("redis: the password is wrong or missing; correct REDIS_URL") from None
            except NoPermissionError:
                raise AccessDenied("redis: this user may not run PING or INFO; grant it +ping +info in its ACL") from None
            except RedisError as error:
                raise ServiceError(
                    f"redis: no answer ({type(error).__name__}); is the service up and REDIS_URL right?"
                ) from None
        if policy != "noeviction":
            raise SettingsError(
                f"redis: maxmemory-policy is {policy}, expected noeviction: Langfuse's queues would lose jobs; "
                "run CONFIG SET maxmemory-policy noeviction and change the service's start command"
            )

    def empty(self) -> int:
        """Remove every key of the database; returns how many there were.

        Raises:
            ServiceError: it does not answer.
        """
        with self.client() as client:
            try:
                count = int(client.dbsize())
                client.flushdb()
            except RedisError as error:
                raise ServiceError(f"redis: could not be emptied ({type(error).__name__}); run FLUSHDB by hand") from None
        return count
