"""LiteLLM's real database: its own migrations, and rows as a gateway in use would have.

The migrations come with the wheel `litellm-proxy-extras`: a folder each, plain SQL, run in the order of the folders' full
names (two share a timestamp, one has spaces). Rows are made by the server from a seed: the same call gives the same rows.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import psycopg

from shared.engines.process import EngineError
from shared.sandbox.ownership import become_owner

__all__ = ["apply", "load", "migrations"]

_PRISMA_TABLE = """
    CREATE TABLE IF NOT EXISTS _prisma_migrations (
        id varchar(36) PRIMARY KEY,
        checksum varchar(64) NOT NULL,
        finished_at timestamptz,
        migration_name varchar(255) NOT NULL,
        logs text,
        rolled_back_at timestamptz,
        started_at timestamptz NOT NULL DEFAULT now(),
        applied_steps_count integer NOT NULL DEFAULT 0
    )
"""
_RECORD = """
    INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at, applied_steps_count)
    VALUES (md5(%(name)s)::uuid::text, %(checksum)s, %(name)s, now(), 1)
"""

# number(i, what): a non-negative hash. prose(i, words): text that compresses like language. Both are gone with the session.
_HELPERS = """
    CREATE FUNCTION pg_temp.number(i bigint, what int) RETURNS bigint IMMUTABLE LANGUAGE sql
        AS 'SELECT hashint8extended(i * 1009 + what, {seed}) & 9223372036854775807';
    CREATE FUNCTION pg_temp.prose(i bigint, words int) RETURNS text IMMUTABLE LANGUAGE sql AS $function$
        SELECT string_agg(
            ('{{the,model,answers,a,question,about,invoice,latency,of,customer,however,because,tokens,in,context,window,should,
            never,exceed,its,limit,and,retry,with,backoff,über,größe,東京,données,émue,select,join,where,budget,team,agent,tool,
            call,result,summary,please,explain,step,by,error,timeout,cache,hit,quality,review,draft,email,meeting,on,monday,at,
            noon,for,project,atlas,kind,regards,👍,done}}'::text[])[1 + pg_temp.number(i * 131 + w, 77) % 64], ' ')
        FROM generate_series(1, words) AS w $function$;
"""
_ROWS = {
    "LiteLLM_BudgetTable": """
        (budget_id, max_budget, soft_budget, tpm_limit, rpm_limit, budget_duration, created_by, updated_by)
        SELECT 'budget-{seed}-' || i, 100 * i, 80 * i, 100000 * i, 60 * i, '30d', 'admin', 'admin'
        FROM generate_series(1, 5) AS i""",
    "LiteLLM_OrganizationTable": """
        (organization_id, organization_alias, budget_id, metadata, models, spend, created_by, updated_by)
        SELECT 'org-{seed}-' || i, 'Organization ' || i, 'budget-{seed}-' || 1 + i % 5, jsonb_build_object('tier', i),
            ARRAY['gpt-4o', 'claude-sonnet'], i * 12.34, 'admin', 'admin'
        FROM generate_series(1, 3) AS i""",
    "LiteLLM_TeamTable": """
        (team_id, team_alias, organization_id, members_with_roles, metadata, max_budget, spend, models)
        SELECT 'team-{seed}-' || i, 'Team ' || i, 'org-{seed}-' || 1 + i % 3,
            jsonb_build_array(jsonb_build_object('role', 'admin', 'user_id', 'user-{seed}-' || i)),
            jsonb_build_object('cost_center', pg_temp.number(i, 1) % 9000), 500.5, pg_temp.number(i, 2) % 100000 / 100.0,
            ARRAY['all-proxy-models']
        FROM generate_series(1, 12) AS i""",
    "LiteLLM_UserTable": """
        (user_id, user_alias, organization_id, teams, user_role, spend, user_email, models, metadata)
        SELECT 'user-{seed}-' || i, 'User "' || i || '" O''Neil', 'org-{seed}-' || 1 + i % 3,
            ARRAY['team-{seed}-' || 1 + i % 12], CASE WHEN i = 1 THEN 'proxy_admin' ELSE 'internal_user' END,
            pg_temp.number(i, 3) % 10000 / 100.0, 'user' || i || '.{seed}@example.com', ARRAY[]::text[],
            jsonb_build_object('note', pg_temp.prose(i, 8))
        FROM generate_series(1, 200) AS i""",
    "LiteLLM_VerificationToken": """
        (token, key_name, key_alias, spend, models, user_id, team_id, metadata, max_budget, budget_id, expires)
        SELECT encode(sha256(('sk-{seed}-' || i)::bytea), 'hex'), 'sk-...' || right(md5(i::text), 4), 'key ' || i,
            pg_temp.number(i, 4) % 100000 / 1000.0, ARRAY['gpt-4o'], 'user-{seed}-' || 1 + i % 200,
            'team-{seed}-' || 1 + i % 12, jsonb_build_object('service', pg_temp.prose(i, 2)), NULLIF(i % 4, 0) * 50,
            'budget-{seed}-' || 1 + i % 5,
            CASE WHEN i % 10 = 0 THEN timestamp 'infinity' WHEN i % 3 = 0 THEN timestamp '2027-01-01' END
        FROM generate_series(1, 400) AS i""",
    "LiteLLM_CredentialsTable": """
        (credential_id, credential_name, credential_values, credential_info, created_by, updated_by)
        SELECT md5('credential-{seed}-' || i)::uuid::text, 'provider-{seed}-' || i,
            jsonb_build_object('api_key', encode(sha512(('{seed}' || i)::bytea), 'base64')),
            jsonb_build_object('provider', 'openai'), 'admin', 'admin'
        FROM generate_series(1, 6) AS i""",
    "LiteLLM_ProxyModelTable": """
        (model_id, model_name, litellm_params, model_info, created_by, updated_by)
        SELECT md5('model-{seed}-' || i)::uuid::text, (ARRAY['gpt-4o', 'claude-sonnet', 'llama-3'])[1 + i % 3],
            jsonb_build_object('model', 'openai/gpt-4o', 'api_key', encode(sha512(('m{seed}' || i)::bytea), 'base64')),
            jsonb_build_object('id', i, 'db_model', true), 'admin', 'admin'
        FROM generate_series(1, 9) AS i""",
    "LiteLLM_SpendLogs": """
        (request_id, call_type, api_key, spend, total_tokens, prompt_tokens, completion_tokens, "startTime", "endTime", model,
         model_group, custom_llm_provider, "user", metadata, cache_hit, request_tags, team_id, end_user, requester_ip_address,
         messages, response, session_id, status, request_duration_ms, created_at, updated_at)
        SELECT 'chatcmpl-' || md5('{seed}-' || i), 'acompletion', encode(sha256(('sk-{seed}-' || 1 + i % 400)::bytea), 'hex'),
            (n % 100000) / 1e6, n % 4000 + n % 900, n % 4000, n % 900, at, at + (n % 30000) * interval '1 ms',
            (ARRAY['gpt-4o', 'claude-sonnet', 'llama-3'])[1 + n % 3], (ARRAY['gpt-4o', 'claude-sonnet', 'llama-3'])[1 + n % 3],
            (ARRAY['openai', 'anthropic', 'groq'])[1 + n % 3], 'user-{seed}-' || 1 + i % 200,
            jsonb_build_object('user_api_key_alias', 'key ' || 1 + i % 400, 'usage', jsonb_build_object('cached', n % 7 = 0),
                'trace_id', md5('trace' || n)), CASE WHEN n % 7 = 0 THEN 'True' ELSE 'False' END,
            jsonb_build_array('env:prod', 'feature:' || n % 20), 'team-{seed}-' || 1 + i % 12,
            CASE WHEN n % 5 > 0 THEN 'customer-' || n % 5000 END, '10.' || n % 250 || '.' || n % 199 || '.1',
            jsonb_build_array(jsonb_build_object('role', 'user', 'content', pg_temp.prose(i, 20 + (n % 60)::int))),
            jsonb_build_object('id', md5('r' || n), 'choices', jsonb_build_array(jsonb_build_object('message',
                jsonb_build_object('role', 'assistant', 'content', pg_temp.prose(i + 7, 30 + (n % 120)::int))))),
            md5('session' || n % 1000), CASE WHEN n % 50 = 0 THEN 'failure' ELSE 'success' END, n % 30000, at, at
        FROM (SELECT i, pg_temp.number(i, 5) AS n, timestamp '2026-11-01' + i * interval '1.25 s' AS at
              FROM generate_series(1, {spend_logs}) AS i) AS base""",
    "LiteLLM_DailyUserSpend": """
        (id, user_id, date, api_key, model, custom_llm_provider, prompt_tokens, completion_tokens, spend, api_requests,
         successful_requests, updated_at)
        SELECT md5(concat_ws('/', "user", date("startTime"), api_key, model))::uuid::text, "user", date("startTime")::text,
            api_key, model, min(custom_llm_provider), sum(prompt_tokens), sum(completion_tokens), sum(spend), count(*),
            count(*) FILTER (WHERE status = 'success'), max("endTime")
        FROM "LiteLLM_SpendLogs" WHERE "user" LIKE 'user-{seed}-%' GROUP BY "user", date("startTime"), api_key, model""",
}


def migrations() -> list[Path]:
    """The SQL files of LiteLLM's migrations, in the order in which LiteLLM applies them."""
    spec = find_spec("litellm_proxy_extras")
    if spec is None or not spec.submodule_search_locations:
        raise EngineError("package litellm-proxy-extras is not installed; install the dependency group `sandbox`")
    folder = Path(spec.submodule_search_locations[0]) / "migrations"
    return sorted(folder.glob("*/migration.sql"), key=lambda file: file.parent.name)


def apply(url: str) -> int:
    """Create LiteLLM's tables, and record the migrations as Prisma does; those that are recorded are not applied again.

    Args:
        url: of the database, as its owner or a superuser; its owner will own everything in it.
    Returns: how many migrations were applied.
    """
    files = migrations()
    # Autocommit: some create indexes concurrently, which no transaction may do.
    with psycopg.connect(url, autocommit=True) as connection:
        become_owner(connection)
        connection.execute(_PRISMA_TABLE)
        applied = {str(name) for (name,) in connection.execute("SELECT migration_name FROM _prisma_migrations")}
        files = [file for file in files if file.parent.name not in applied]
        for file in files:
            statements = file.read_bytes()
            try:
                connection.execute(statements)
            except psycopg.Error as error:
                raise EngineError(f"LiteLLM migration {file.parent.name!r}: {error}") from None
            values = {"name": file.parent.name, "checksum": hashlib.sha256(statements).hexdigest()}
            connection.execute(_RECORD, values)
    return len(files)


def load(url: str, *, spend_logs: int = 20_000, seed: int = 1) -> int:
    """Add an organization's keys, teams, users, models and spend logs; a row of these is about 1.5 kB.

    Args:
        url: of a database with LiteLLM's schema, as its owner or a superuser.
        spend_logs: how many.
        seed: rows of different seeds never collide; a seed can be loaded once.
    Returns: how many rows were added, over all tables.
    """
    added = 0
    with psycopg.connect(url) as connection:
        connection.execute(_HELPERS.format(seed=int(seed)).encode())
        for table, rows in _ROWS.items():
            statement = f'INSERT INTO "{table}" {rows.format(seed=int(seed), spend_logs=int(spend_logs))}'
            added += connection.execute(statement.encode()).rowcount
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE")
    return added
