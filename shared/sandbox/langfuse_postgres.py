"""A Langfuse-shaped Postgres database: real table names and relations, definitions and rows of our own.

What is particular about the original is kept: text ids, enums, arrays, jsonb, compound keys, partial and expression
indexes, the table of background migrations that upgrades watch, secrets encrypted with ENCRYPTION_KEY.
"""

from __future__ import annotations

import hashlib
import os
import secrets

import psycopg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.sandbox.ownership import become_owner

__all__ = ["PROJECTS", "apply", "decrypt", "encrypt", "load"]

PROJECTS = ("prj-checkout", "prj-search", "prj-assistant", "prj-übersetzung")
"""The first projects' ids; those of the traces in ClickHouse."""

_SCHEMA = """
CREATE TYPE "Role" AS ENUM ('OWNER', 'ADMIN', 'MEMBER', 'VIEWER', 'NONE');
CREATE TYPE "ApiKeyScope" AS ENUM ('ORGANIZATION', 'PROJECT');
CREATE TYPE "DatasetStatus" AS ENUM ('ACTIVE', 'ARCHIVED');
CREATE TYPE "AuditLogRecordType" AS ENUM ('USER', 'API_KEY');
CREATE TABLE _prisma_migrations (
    id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL, finished_at timestamptz, migration_name varchar(255) NOT NULL,
    logs text, rolled_back_at timestamptz, started_at timestamptz NOT NULL DEFAULT now(),
    applied_steps_count int NOT NULL DEFAULT 0
);
CREATE TABLE organizations (
    id text PRIMARY KEY, name text NOT NULL, cloud_config jsonb, metadata jsonb,
    ai_features_enabled bool NOT NULL DEFAULT false,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE users (
    id text PRIMARY KEY, name text, email text UNIQUE, email_verified timestamp(3), password text, image text,
    admin bool NOT NULL DEFAULT false, feature_flags text[] NOT NULL DEFAULT '{}',
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE organization_memberships (
    id text PRIMARY KEY, org_id text NOT NULL REFERENCES organizations ON UPDATE CASCADE ON DELETE CASCADE,
    user_id text NOT NULL REFERENCES users ON UPDATE CASCADE ON DELETE CASCADE, role "Role" NOT NULL,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, UNIQUE (org_id, user_id)
);
CREATE TABLE projects (
    id text PRIMARY KEY, org_id text NOT NULL REFERENCES organizations ON UPDATE CASCADE ON DELETE CASCADE, name text NOT NULL,
    retention_days int, has_traces bool NOT NULL DEFAULT false, metadata jsonb, deleted_at timestamp(3),
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, updated_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX projects_org_id_idx ON projects (org_id);
CREATE UNIQUE INDEX projects_name_in_org_idx ON projects (org_id, lower(name)) WHERE deleted_at IS NULL;
CREATE TABLE api_keys (
    id text PRIMARY KEY, public_key text NOT NULL UNIQUE, hashed_secret_key text NOT NULL UNIQUE,
    fast_hashed_secret_key text UNIQUE, display_secret_key text NOT NULL, note text, last_used_at timestamp(3),
    expires_at timestamp(3), scope "ApiKeyScope" NOT NULL DEFAULT 'PROJECT',
    project_id text REFERENCES projects ON UPDATE CASCADE ON DELETE CASCADE,
    org_id text REFERENCES organizations ON UPDATE CASCADE ON DELETE CASCADE,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, CHECK ((project_id IS NULL) <> (org_id IS NULL))
);
CREATE TABLE llm_api_keys (
    id text PRIMARY KEY, provider text NOT NULL, adapter text NOT NULL, display_secret_key text NOT NULL,
    secret_key text NOT NULL, base_url text, custom_models text[] NOT NULL DEFAULT '{}', config jsonb,
    project_id text NOT NULL REFERENCES projects ON UPDATE CASCADE ON DELETE CASCADE, UNIQUE (project_id, provider)
);
CREATE TABLE prompts (
    id text PRIMARY KEY, project_id text NOT NULL REFERENCES projects ON UPDATE CASCADE ON DELETE CASCADE, name text NOT NULL,
    version int NOT NULL, type text NOT NULL DEFAULT 'text', prompt jsonb NOT NULL, config json NOT NULL DEFAULT '{}',
    labels text[] NOT NULL DEFAULT '{}', tags text[] NOT NULL DEFAULT '{}', commit_message text, created_by text NOT NULL,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, UNIQUE (project_id, name, version)
);
CREATE INDEX prompts_tags_idx ON prompts USING gin (tags);
CREATE TABLE models (
    id text PRIMARY KEY, project_id text REFERENCES projects ON UPDATE CASCADE ON DELETE CASCADE, model_name text NOT NULL,
    match_pattern text NOT NULL, start_date timestamp(3), input_price numeric(65, 30), output_price numeric(65, 30), unit text,
    tokenizer_config jsonb
);
CREATE TABLE prices (
    id text PRIMARY KEY, model_id text NOT NULL REFERENCES models ON UPDATE CASCADE ON DELETE CASCADE, usage_type text NOT NULL,
    price numeric(65, 30) NOT NULL, UNIQUE (model_id, usage_type)
);
CREATE TABLE datasets (
    id text NOT NULL, project_id text NOT NULL REFERENCES projects ON UPDATE CASCADE ON DELETE CASCADE, name text NOT NULL,
    description text, metadata jsonb, PRIMARY KEY (id, project_id), UNIQUE (project_id, name)
);
CREATE TABLE dataset_items (
    id text NOT NULL, project_id text NOT NULL, dataset_id text NOT NULL, status "DatasetStatus" NOT NULL DEFAULT 'ACTIVE',
    input jsonb, expected_output jsonb, source_trace_id text, created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (id, project_id),
    FOREIGN KEY (dataset_id, project_id) REFERENCES datasets (id, project_id) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX dataset_items_source_trace_idx ON dataset_items USING hash (source_trace_id);
CREATE TABLE media (
    id text NOT NULL, sha_256_hash char(44) NOT NULL, project_id text NOT NULL REFERENCES projects ON DELETE CASCADE,
    bucket_path text NOT NULL, bucket_name text NOT NULL, content_type text NOT NULL, content_length bigint NOT NULL,
    uploaded_at timestamp(3), upload_http_status int, PRIMARY KEY (project_id, id), UNIQUE (project_id, sha_256_hash)
);
CREATE TABLE trace_media (
    id text PRIMARY KEY, project_id text NOT NULL, trace_id text NOT NULL, media_id text NOT NULL, field text NOT NULL,
    FOREIGN KEY (project_id, media_id) REFERENCES media (project_id, id) ON DELETE CASCADE
);
CREATE TABLE background_migrations (
    id text PRIMARY KEY, name text NOT NULL UNIQUE, script text NOT NULL, args jsonb NOT NULL,
    state jsonb NOT NULL DEFAULT '{}', finished_at timestamp(3), failed_at timestamp(3), failed_reason text,
    worker_id text, locked_at timestamp(3)
);
CREATE TABLE audit_logs (
    id text PRIMARY KEY, type "AuditLogRecordType" NOT NULL DEFAULT 'USER', user_id text, org_id text NOT NULL, project_id text,
    resource_type text NOT NULL, resource_id text NOT NULL, action text NOT NULL, before text, after text,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX audit_logs_created_at_idx ON audit_logs (created_at DESC);
"""

_ROWS = {
    "organizations": """(id, name, cloud_config, metadata)
        SELECT 'org-' || i, (ARRAY['Acme', 'Ümlaut & Söhne', 'O''Neil "quoted"'])[i], NULL::jsonb, '{"plan": null}'
        FROM generate_series(1, 3) AS i""",
    "users": """(id, name, email, password, admin, feature_flags)
        SELECT 'user-' || i, E'Name\\tof ' || i, 'user' || i || '@example.com', '$2b$12$' || md5(i::text), i = 1,
            ARRAY['beta', '']
        FROM generate_series(1, 200) AS i""",
    "organization_memberships": """(id, org_id, user_id, role)
        SELECT 'membership-' || i, 'org-' || 1 + i % 3, 'user-' || i,
            (enum_range(NULL::"Role"))[1 + i % 5] FROM generate_series(1, 200) AS i""",
    "projects": """(id, org_id, name, retention_days, has_traces, metadata, deleted_at)
        SELECT id, 'org-' || 1 + n % 3, id, NULLIF(n % 2, 0) * 30, true, jsonb_build_object('n', n),
            CASE WHEN n > 10 THEN timestamp '2026-10-01' END
        FROM (SELECT n, coalesce((:projects)[n], 'project-' || n) AS id FROM generate_series(1, 12) AS n) AS named""",
    "api_keys": """(id, public_key, hashed_secret_key, fast_hashed_secret_key, display_secret_key, note, last_used_at,
         project_id)
        SELECT 'key-' || row_number() OVER (ORDER BY p.id, i), 'pk-lf-' || md5(p.id || i),
            '$2a$11$' || md5('bcrypt' || p.id || i), encode(sha256((p.id || i)::bytea), 'hex'),
            'sk-lf-...' || left(md5(i::text), 4), NULLIF(i, 2)::text,
            timestamp '2026-11-01' + i * interval '1 h', p.id FROM projects AS p, generate_series(1, 5) AS i""",
    "prompts": """(id, project_id, name, version, type, prompt, config, labels, tags, created_by)
        SELECT md5(p.id || n || v), p.id, 'prompt ' || n, v, CASE WHEN n % 2 = 0 THEN 'chat' ELSE 'text' END,
            to_jsonb(repeat(E'Translate {{text}} — line ' || v || E'\\n', 1 + n)), '{"temperature":  0.70, "b": 1, "a": 2}',
            CASE WHEN v = 5 THEN ARRAY['production', 'latest'] ELSE '{}' END, ARRAY['team/' || n % 3], 'user-' || n
        FROM projects AS p, generate_series(1, 20) AS n, generate_series(1, 5) AS v""",
    "models": """(id, project_id, model_name, match_pattern, start_date, input_price, output_price, unit, tokenizer_config)
        SELECT 'model-' || i, CASE WHEN i % 9 = 0 THEN 'prj-search' END, 'model-' || i, '(?i)^(model-' || i || ')$',
            timestamp '2026-01-01', i / 1e9, 4 * i / 1e9, 'TOKENS', jsonb_build_object('tokensPerName', 1, 'model', i)
        FROM generate_series(1, 90) AS i""",
    "prices": """(id, model_id, usage_type, price)
        SELECT 'price-' || m.id || kind, m.id, kind, length(kind) / 1e7::numeric
        FROM models AS m, unnest(ARRAY['input', 'output', 'input_cached']) AS kind""",
    "datasets": """(id, project_id, name, description, metadata)
        SELECT 'dataset-' || i, p.id, 'Golden set ' || i, NULLIF('', ''), '[]'
        FROM projects AS p, generate_series(1, 2) AS i""",
    "dataset_items": """(id, project_id, dataset_id, status, input, expected_output, source_trace_id)
        SELECT 'item-' || d.id || '-' || i, d.project_id, d.id, (enum_range(NULL::"DatasetStatus"))[1 + i % 2],
            jsonb_build_object('question', repeat('why? ', i % 40), 'emoji', '🦜', 'n', i / 7.0), to_jsonb(i), md5(i::text)
        FROM datasets AS d, generate_series(1, :items) AS i""",
    "media": """(id, sha_256_hash, project_id, bucket_path, bucket_name, content_type, content_length, uploaded_at,
         upload_http_status)
        SELECT 'media-' || i, encode(sha256((p.id || i)::bytea), 'base64'), p.id, 'media/' || p.id || '/media-' || i || '.png',
            'langfuse', 'image/png', 1000 * i, timestamp '2026-11-02', 200 FROM projects AS p, generate_series(1, 10) AS i""",
    "trace_media": """(id, project_id, trace_id, media_id, field)
        SELECT md5(project_id || id), project_id, md5('trace' || id), id, 'input' FROM media""",
    "background_migrations": """(id, name, script, args, finished_at)
        SELECT md5(i::text)::uuid::text, '2024' || i || '_migrate', 'migrate' || i, '{}', timestamp '2026-01-01'
        FROM generate_series(1, 9) AS i""",
    "audit_logs": """(id, user_id, org_id, project_id, resource_type, resource_id, action, before, after, created_at)
        SELECT md5('audit' || i), 'user-' || 1 + i % 200, 'org-' || 1 + i % 3, 'prj-search', 'prompt', md5(i::text), 'update',
            '{"v":' || i || '}', '{"v":' || i + 1 || '}', timestamp '2026-11-01' + i * interval '1 minute'
        FROM generate_series(1, :items) AS i""",
}


def apply(url: str) -> None:
    """Create types and tables in an empty database. One that has them already stays as it is.

    Args:
        url: of the database, as its owner or a superuser; its owner will own everything in it.
    """
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT to_regclass('_prisma_migrations')").fetchone() != (None,):
            return
        become_owner(connection)
        connection.execute(_SCHEMA.encode())
        connection.execute(
            "INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at, applied_steps_count) "
            "VALUES (gen_random_uuid(), %s, '20260101000000_init', now(), 1)",
            [hashlib.sha256(_SCHEMA.encode()).hexdigest()],
        )


def load(url: str, *, encryption_key: str | None = None, items: int = 2_000) -> int:
    """Fill an empty Langfuse database with organizations, projects, keys, prompts, datasets and their history.

    Args:
        url: of the database, as its owner or a superuser.
        encryption_key: Langfuse's ENCRYPTION_KEY, 64 hex digits, that provider keys are encrypted with; default one that
            nobody keeps.
        items: items per dataset (there are 24), and audit log entries.
    Returns: how many rows were added.
    """
    key = encryption_key or secrets.token_hex(32)
    projects = f"ARRAY[{', '.join(map(repr, PROJECTS))}]"
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        added = 0
        for table, rows in _ROWS.items():
            statement = f"INSERT INTO {table} {rows}".replace(":projects", projects).replace(":items", str(int(items)))
            added += cursor.execute(statement.encode()).rowcount
        cursor.executemany(
            "INSERT INTO llm_api_keys (id, provider, adapter, display_secret_key, secret_key, project_id) "
            "VALUES (%s, 'openai', 'openai', '...key', %s, %s)",
            [(f"llm-key-{project}", encrypt(f"sk-provider-{project}", key), project) for project in PROJECTS],
        )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE")
    return added + len(PROJECTS)


def encrypt(text: str, encryption_key: str) -> str:
    """Encrypt as Langfuse stores secrets: AES-256-GCM, `iv:ciphertext:tag` in hex (facts: apps.md 2.1)."""
    iv = os.urandom(12)
    sealed = AESGCM(bytes.fromhex(encryption_key)).encrypt(iv, text.encode(), None)
    return f"{iv.hex()}:{sealed[:-16].hex()}:{sealed[-16:].hex()}"


def decrypt(stored: str, encryption_key: str) -> str:
    """Undo `encrypt`.

    Raises:
        cryptography.exceptions.InvalidTag: another key encrypted it, or it was changed.
    """
    iv, ciphertext, tag = (bytes.fromhex(part) for part in stored.split(":"))
    return AESGCM(bytes.fromhex(encryption_key)).decrypt(iv, ciphertext + tag, None).decode()
