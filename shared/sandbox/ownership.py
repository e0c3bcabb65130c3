"""Objects made by a superuser, in somebody else's database, shall be that somebody's."""

from __future__ import annotations

from typing import Any

import psycopg

__all__ = ["become_owner"]


def become_owner(connection: psycopg.Connection[Any]) -> None:
    """Go on as the owner of the database that this connection is to, until its end.

    Args:
        connection: of that owner, or of a role that may become it.
    """
    owner = "SELECT quote_ident(pg_get_userbyid(datdba)) FROM pg_database WHERE datname = current_database()"
    row = connection.execute(owner).fetchone()
    if row is not None:
        connection.execute(f"SET SESSION ROLE {row[0]}")
