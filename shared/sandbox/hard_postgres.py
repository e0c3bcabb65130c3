"""A Postgres database that is hard to copy: everything that has ever been lost in a backup, in one small database."""

from __future__ import annotations

import subprocess

import psycopg
from psycopg import sql

from shared.engines.postgres import PostgresEngine
from shared.engines.process import EngineError


def create_hard_database(engine: PostgresEngine, name: str) -> None:
    """Create and fill a database that is hard to copy, with properties, grants and an odd role of its own.

    Args:
        engine: running, with the roles of `postgres_roles.create_roles`.
        name: of the new database.
    """
    quoted = sql.Identifier(name)
    with psycopg.connect(engine.url(), autocommit=True) as connection:
        if not connection.execute("SELECT FROM pg_roles WHERE rolname = 'Odd role'").fetchall():
            connection.execute(ODD_ROLE_SQL)
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(quoted))
        run_sql(engine, name, HARD_SQL)
        run_sql(engine, "postgres", HARD_DATABASE_SQL.replace("{0}", quoted.as_string(None)))


def run_sql(engine: PostgresEngine, database: str, text: str) -> None:
    """Run statements one by one, each in its own transaction unless they say otherwise.

    Raises:
        EngineError: with the first statement that failed.
    """
    done = subprocess.run(
        [str(engine.bin_dir / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null"],
        input=text,
        env={
            "PGHOST": engine.host,
            "PGPORT": str(engine.port),
            "PGUSER": engine.superuser,
            "PGPASSWORD": engine.password,
            "PGDATABASE": database,
            "PGCLIENTENCODING": "UTF8",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise EngineError(f"psql on {database}: {done.stderr.strip()}")


ODD_ROLE_SQL = """CREATE ROLE "Odd role" NOLOGIN; GRANT litellm TO "Odd role"; COMMENT ON ROLE "Odd role" IS 'it''s odd'"""

HARD_DATABASE_SQL = """
ALTER DATABASE {0} OWNER TO langfuse;
ALTER DATABASE {0} CONNECTION LIMIT 77;
ALTER DATABASE {0} SET search_path TO "$user", public, "Odd Schema";
ALTER DATABASE {0} SET work_mem TO '7MB';
ALTER DATABASE {0} SET "app.greeting" TO 'it''s = "quoted", \\\\ and spaced';
ALTER ROLE litellm IN DATABASE {0} SET statement_timeout TO '31s';
ALTER ROLE litellm IN DATABASE {0} SET search_path TO public;
REVOKE ALL ON DATABASE {0} FROM PUBLIC;
GRANT CONNECT ON DATABASE {0} TO litellm, backup;
GRANT CONNECT, TEMPORARY ON DATABASE {0} TO "Odd role" WITH GRANT OPTION;
COMMENT ON DATABASE {0} IS 'a comment with ''quotes''
and two lines';
"""

_TYPES = r"""
CREATE EXTENSION vector;
CREATE SCHEMA "Odd Schema" AUTHORIZATION langfuse;
CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'Sehr glücklich');
ALTER TYPE mood ADD VALUE 'between' BEFORE 'Sehr glücklich';
CREATE TYPE "Odd Schema"."Pair of Things" AS ("First One" int, second text);
CREATE DOMAIN positive AS numeric(12, 3) DEFAULT 1 CHECK (VALUE > 0);
CREATE DOMAIN short_text AS text COLLATE "C" NOT NULL CONSTRAINT "not long" CHECK (length(VALUE) < 1000);
CREATE TYPE float_range AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE COLLATION "Odd Schema"."plain" FROM "C";

CREATE TABLE every_type (
  id int PRIMARY KEY, c_bool bool, c_small smallint, c_int int, c_big bigint, c_num numeric, c_num_fixed numeric(30, 10),
  c_real real, c_double double precision, c_money money, c_text text, c_varchar varchar(40), c_char char(10), c_name name,
  c_one "char", c_bytea bytea, c_date date, c_time time, c_timetz timetz, c_ts timestamp, c_tstz timestamptz,
  c_ts3 timestamp(3), c_interval interval, c_uuid uuid, c_json json, c_jsonb jsonb, c_xml text, c_inet inet, c_cidr cidr,
  c_mac macaddr, c_mac8 macaddr8, c_bit bit(9), c_varbit varbit, c_tsvector tsvector, c_tsquery tsquery, c_point point,
  c_line line, c_lseg lseg, c_box box, c_path path, c_polygon polygon, c_circle circle, c_int4range int4range,
  c_tstzrange tstzrange, c_multirange datemultirange, c_float_range float_range, c_mood mood, c_positive positive,
  c_composite "Odd Schema"."Pair of Things", c_ints int[], c_texts text[][], c_moods mood[], c_jsonbs jsonb[],
  c_composites "Odd Schema"."Pair of Things"[], c_domains positive[], c_vector vector(3), c_halfvec halfvec(3),
  c_sparsevec sparsevec(5), c_oid oid, c_regclass regclass, c_pg_lsn pg_lsn, c_jsonpath jsonpath);
INSERT INTO every_type (id) VALUES (0);
INSERT INTO every_type VALUES (
  1, true, -32768, -2147483648, -9223372036854775808, 'NaN', 12345678901234567890.0123456789,
  'NaN', '-Infinity', '-12.34', E'new\nline, tab\t, back\\slash, quote'' and "double", 🦀 𝔘𝔫𝔦 é e\u0301',
  'varchar', 'pad', 'a name',
  'x', (SELECT string_agg(decode(lpad(to_hex(i), 2, '0'), 'hex'), '' ORDER BY i) FROM generate_series(0, 255) i),
  '4713-01-01 BC', '23:59:59.999999', '12:00:00.5+05:30', '-infinity', 'infinity',
  '2024-02-29 12:34:56.789', '-1 year 2 mons -3 days +04:05:06.7', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
  '{"b" : 1,  "a": 2, "a": 3}', '{"b": 1.10, "a": "\u00e9\\u0041 \"q\"", "n": null, "deep": [[[]], {}]}', '<a>&lt;</a>',
  '192.168.0.1/24', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'101010101', B'1',
  to_tsvector('english', 'The fat cats sat'), to_tsquery('english', 'fat & (rat | cat)'), '(1.5,-2)', '{1,2,3}',
  '[(0,0),(1,1)]', '(1,1),(0,0)', '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '<(0,0),5>', '[1,10)',
  '[2024-01-01 00:00+00,)', '{[2024-01-01,2024-02-01), [2025-01-01,)}', '[0.1,0.2]', 'it''s ok', 0.001,
  '(7,"a ""b"", (c)")', '{1,NULL,3}', '{{a,"b c"},{"NULL",NULL}}', '{sad,between}', ARRAY['{"a": [1]}', 'null']::jsonb[],
  ARRAY['(1,a)', NULL]::"Odd Schema"."Pair of Things"[], '{1.5,2}', '[1,2.5,-3]', '[1,2,3]', '{1:1.5,5:2}/5',
  4294967295, 'every_type', '16/B374D848', '$.a[*] ? (@ > 1)');
INSERT INTO every_type (id, c_num, c_real, c_double, c_text, c_char, c_bytea, c_date, c_ts, c_tstz, c_interval, c_ints, c_jsonb)
VALUES (2, 'Infinity', 'Infinity', 'Infinity', '', '', '', 'infinity', '0044-03-15 12:00:00 BC',
  '294276-12-31 23:59:59.999999+00', '178000000 years', '{}', 'null'),
 (3, '-Infinity', 1.1754944e-38, 2.2250738585072014e-308, '\N', '\N', '\x5c4e', '-infinity', '1999-12-31 23:59:59.999999',
  '4713-01-01 00:00:00+00 BC', '-178000000 years', '[2:4]={1,2,3}', '"\\N"'),
 (4, 1.0, '-0', '-0', E'\x01\x7f', ' a ', NULL, '5874897-12-31', NULL, NULL, '0', '{{1,2},{3,4}}', '1e400'),
 (5, 1.000, 0.1, 0.1, repeat('long é ', 200000), NULL, decode(repeat('00ff', 300000), 'hex'), NULL, NULL, NULL, NULL, NULL,
  (SELECT jsonb_object_agg(i, md5(i::text)) FROM generate_series(1, 5000) i));
"""

_TABLES = r"""
CREATE TABLE "Table with ""quotes"" and spaces" ("Column One" text, "select" int, "ünïcode" text, PRIMARY KEY ("select"));
INSERT INTO "Table with ""quotes"" and spaces" VALUES ('a', 1, NULL), (NULL, 2, ''), ('', 3, 'NULL');
CREATE TABLE no_rows (id int PRIMARY KEY, note text);
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE dropped_column (a int, gone text, b text DEFAULT 'b', also_gone int[]);
INSERT INTO dropped_column VALUES (1, 'x', 'y', '{1}');
ALTER TABLE dropped_column DROP COLUMN gone, DROP COLUMN also_gone, ADD COLUMN added int NOT NULL DEFAULT 42;
INSERT INTO dropped_column (a) VALUES (2);
CREATE UNLOGGED TABLE unlogged AS SELECT i, md5(i::text) AS hash FROM generate_series(1, 50) i;
CREATE TABLE wide AS SELECT 1 AS id;
DO $$ BEGIN FOR i IN 1..250 LOOP EXECUTE format('ALTER TABLE wide ADD c%s int DEFAULT %s', i, i); END LOOP; END $$;

CREATE TABLE computed (
  id bigint GENERATED ALWAYS AS IDENTITY (START WITH 100 INCREMENT BY 5), other int GENERATED BY DEFAULT AS IDENTITY,
  a numeric, doubled numeric GENERATED ALWAYS AS (a * 2) STORED, status varchar(10) CHECK (status IN ('new', 'done')),
  legacy serial, PRIMARY KEY (id));
INSERT INTO computed (a, status) SELECT i / 3.0, CASE WHEN i % 2 = 0 THEN 'new' ELSE 'done' END FROM generate_series(1, 20) i;
BEGIN;
INSERT INTO computed (a) VALUES (0);
ROLLBACK;
CREATE SEQUENCE never_used START WITH 5;
CREATE SEQUENCE restarted;
SELECT setval('restarted', 42, false);
CREATE SEQUENCE "Down Hill" AS int INCREMENT BY -3 MAXVALUE 1000 MINVALUE -1000 START WITH 1000 CYCLE CACHE 4;
SELECT nextval('"Down Hill"') FROM generate_series(1, 7);
CREATE SEQUENCE exhausted MAXVALUE 3;
SELECT nextval('exhausted') FROM generate_series(1, 3);
CREATE SEQUENCE huge START WITH 9223372036854775806;
SELECT nextval('huge'), nextval('huge');

CREATE TABLE person (id int PRIMARY KEY, best_friend int NOT NULL, club int);
CREATE TABLE club (id int PRIMARY KEY, chair int NOT NULL REFERENCES person DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE person ADD FOREIGN KEY (best_friend) REFERENCES person DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE person ADD CONSTRAINT "in a club" FOREIGN KEY (club) REFERENCES club ON DELETE SET NULL NOT VALID;
BEGIN;
INSERT INTO person VALUES (1, 2, NULL), (2, 1, NULL);
INSERT INTO club VALUES (10, 1);
UPDATE person SET club = 10;
COMMIT;

CREATE TABLE measurement (at date NOT NULL, city int, value float8, PRIMARY KEY (at, city)) PARTITION BY RANGE (at);
CREATE TABLE measurement_2023 PARTITION OF measurement FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE measurement_2024 (value float8, city int NOT NULL, junk text, at date NOT NULL);
ALTER TABLE measurement_2024 DROP COLUMN junk;
ALTER TABLE measurement ATTACH PARTITION measurement_2024 FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE measurement_rest PARTITION OF measurement DEFAULT PARTITION BY LIST (city);
CREATE TABLE measurement_rest_1 PARTITION OF measurement_rest FOR VALUES IN (1, NULL);
CREATE TABLE measurement_rest_any PARTITION OF measurement_rest DEFAULT;
CREATE INDEX ON measurement (value DESC NULLS LAST) WHERE value > 0;
INSERT INTO measurement SELECT '2022-11-01'::date + i * 7, i % 3, sin(i) FROM generate_series(1, 150) i;
CREATE TABLE hashed (id int PRIMARY KEY) PARTITION BY HASH (id);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO hashed SELECT generate_series(1, 30);
CREATE TABLE refers (id int REFERENCES hashed, at date, city int, FOREIGN KEY (at, city) REFERENCES measurement);
INSERT INTO refers SELECT 1, at, city FROM measurement LIMIT 3;

CREATE TABLE parent (id int, note text);
CREATE TABLE child (own_first text, CHECK (id < 1000)) INHERITS (parent);
ALTER TABLE parent ADD COLUMN later text DEFAULT 'later';
INSERT INTO parent VALUES (1, 'p');
INSERT INTO child VALUES (2, 'c', 'own', 'l');
CREATE TABLE typed OF "Odd Schema"."Pair of Things" (PRIMARY KEY ("First One"));
INSERT INTO typed VALUES (1, 'one');
CREATE TABLE excluded (room int, during tsrange, EXCLUDE USING gist (during WITH &&));
INSERT INTO excluded VALUES (1, '[2024-01-01,2024-01-02)');
CREATE TABLE embeddings (id int PRIMARY KEY, v vector(3), tags text[]) WITH (fillfactor = 70, toast.autovacuum_enabled = false);
INSERT INTO embeddings SELECT i, ARRAY[i, 1, 2]::float4[]::vector, ARRAY[i::text] FROM generate_series(1, 40) i;
CREATE INDEX "hnsw index" ON embeddings USING hnsw (v vector_l2_ops);
CREATE INDEX ON embeddings USING gin (tags);
CREATE UNIQUE INDEX embeddings_expression ON embeddings ((id * 2), lower(tags[1])) INCLUDE (tags) NULLS NOT DISTINCT;
ALTER TABLE embeddings REPLICA IDENTITY FULL;
ALTER TABLE embeddings CLUSTER ON embeddings_pkey;
ALTER TABLE embeddings ALTER COLUMN tags SET STATISTICS 500, ALTER COLUMN tags SET STORAGE EXTERNAL;
CREATE STATISTICS embeddings_stats (ndistinct, mcv) ON id, tags FROM embeddings;
SELECT lo_from_bytea(200001, decode(repeat('00ff5c', 1000000), 'hex'));
SELECT lo_from_bytea(200002, '');
SELECT lo_from_bytea(200003, '\x00');
SELECT lo_put(200003, 3000000, '\xff');
ALTER LARGE OBJECT 200001 OWNER TO langfuse;
GRANT SELECT ON LARGE OBJECT 200001 TO "Odd role";
COMMENT ON LARGE OBJECT 200001 IS 'a large object';
"""

_CODE = r"""
CREATE FUNCTION add_one(x int) RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS 'SELECT x + 1';
CREATE FUNCTION "Odd Schema"."Odd Function"(VARIADIC names text[] DEFAULT '{a}', OUT total int) LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp COST 42 AS
$body$ BEGIN -- a comment with 'quotes' and $dollars$
  total := coalesce(array_length(names, 1), 0); END $body$;
CREATE FUNCTION people() RETURNS SETOF person LANGUAGE sql STABLE ROWS 5 BEGIN ATOMIC SELECT * FROM person; END;
CREATE PROCEDURE do_nothing(INOUT x int) LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE AGGREGATE concat_all(text) (SFUNC = textcat, STYPE = text, INITCOND = '');
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq, COMMUTATOR = ===);
CREATE CAST ("Odd Schema"."Pair of Things" AS text) WITH INOUT AS ASSIGNMENT;
CREATE TEXT SEARCH CONFIGURATION "Odd Schema".simple_english (COPY = english);
CREATE INDEX person_function ON person (add_one(best_friend));

CREATE VIEW friends WITH (security_barrier) AS
  SELECT p.id, f.id AS friend, 'x'::varchar(5) IN ('a', 'b') AS odd FROM person p JOIN person f ON f.id = p.best_friend;
CREATE VIEW "Odd Schema"."View of a view" AS SELECT * FROM friends WHERE friend > 0 WITH CASCADED CHECK OPTION;
CREATE RECURSIVE VIEW numbers (n) AS SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 5;
CREATE VIEW grouped AS SELECT city, count(*) AS n, max(value) FILTER (WHERE value > 0) OVER w FROM measurement
  GROUP BY city, value WINDOW w AS (PARTITION BY city);
CREATE MATERIALIZED VIEW totals AS SELECT city, count(*) AS n FROM measurement GROUP BY city;
CREATE UNIQUE INDEX ON totals (city) NULLS NOT DISTINCT;
CREATE MATERIALIZED VIEW unpopulated AS SELECT * FROM totals WITH NO DATA;
CREATE RULE no_delete AS ON DELETE TO friends DO INSTEAD NOTHING;

CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.note := NEW.note || ''!''; RETURN NEW; END';
CREATE TRIGGER "touch it" BEFORE INSERT OR UPDATE OF note ON no_rows FOR EACH ROW WHEN (NEW.id > 0) EXECUTE FUNCTION touch();
CREATE TRIGGER disabled BEFORE UPDATE ON no_rows FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE no_rows DISABLE TRIGGER disabled;
CREATE FUNCTION check_later() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON club DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_later();
CREATE TRIGGER on_parts AFTER INSERT ON measurement REFERENCING NEW TABLE AS fresh
  FOR EACH STATEMENT EXECUTE FUNCTION check_later();
CREATE TRIGGER on_each AFTER DELETE ON measurement FOR EACH ROW EXECUTE FUNCTION check_later();
CREATE FUNCTION log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM 1; END';
CREATE EVENT TRIGGER "watch DDL" ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'DROP TABLE') EXECUTE FUNCTION log_ddl();
CREATE EVENT TRIGGER off ON sql_drop EXECUTE FUNCTION log_ddl();
ALTER EVENT TRIGGER off DISABLE;

CREATE TABLE secrets (id int PRIMARY KEY, owner_name name DEFAULT current_user, secret text);
INSERT INTO secrets VALUES (1, 'litellm', 'mine'), (2, 'langfuse', 'yours'), (3, NULL, NULL);
ALTER TABLE secrets ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON secrets FOR ALL TO litellm USING (owner_name = current_user) WITH CHECK (length(secret) < 100);
CREATE POLICY "no nulls" ON secrets AS RESTRICTIVE FOR SELECT USING (owner_name IS NOT NULL);
CREATE FOREIGN DATA WRAPPER nowhere OPTIONS (mode 'none');
CREATE SERVER "far away" TYPE 'x' VERSION '1' FOREIGN DATA WRAPPER nowhere OPTIONS (host 'nowhere');
CREATE USER MAPPING FOR litellm SERVER "far away";
CREATE FOREIGN TABLE far (id int OPTIONS (column_name 'x') NOT NULL, note text DEFAULT 'y') SERVER "far away" OPTIONS (t 'u');
CREATE PUBLICATION "some rows" FOR TABLE person (id, best_friend), computed WHERE (id > 5) WITH (publish = 'insert');
"""

_GRANTS = r"""
ALTER TABLE person OWNER TO langfuse;
ALTER TABLE club OWNER TO langfuse;
ALTER TABLE secrets OWNER TO litellm;
ALTER VIEW friends OWNER TO langfuse;
ALTER FUNCTION add_one(int) OWNER TO langfuse;
ALTER TYPE mood OWNER TO litellm;
GRANT USAGE ON SCHEMA "Odd Schema" TO PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO litellm;
GRANT SELECT, INSERT (id, note), UPDATE (note) ON no_rows TO litellm;
GRANT ALL ON every_type TO "Odd role" WITH GRANT OPTION;
SET ROLE "Odd role";
GRANT SELECT, DELETE ON every_type TO litellm;
RESET ROLE;
REVOKE ALL ON computed FROM postgres;
GRANT SELECT ON computed TO PUBLIC;
GRANT USAGE ON SEQUENCE never_used TO litellm;
REVOKE EXECUTE ON FUNCTION add_one(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION add_one(int) TO litellm;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text) TO litellm;
REVOKE USAGE ON TYPE mood FROM PUBLIC;
REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
GRANT USAGE ON LANGUAGE plpgsql TO langfuse;
ALTER DEFAULT PRIVILEGES FOR ROLE langfuse IN SCHEMA public GRANT SELECT ON TABLES TO litellm;
ALTER DEFAULT PRIVILEGES FOR ROLE langfuse REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE litellm GRANT USAGE ON SEQUENCES TO "Odd role" WITH GRANT OPTION;
COMMENT ON TABLE person IS E'a table''s comment\nwith two lines';
COMMENT ON COLUMN person.best_friend IS 'a column';
COMMENT ON CONSTRAINT "in a club" ON person IS 'a constraint';
COMMENT ON FUNCTION add_one(int) IS 'a function';
COMMENT ON TYPE mood IS 'an enum';
COMMENT ON INDEX "hnsw index" IS 'an index';
COMMENT ON SCHEMA "Odd Schema" IS 'a schema';
COMMENT ON SCHEMA public IS 'not the standard one';
COMMENT ON POLICY own ON secrets IS 'a policy';
COMMENT ON TRIGGER "touch it" ON no_rows IS 'a trigger';
COMMENT ON EVENT TRIGGER off IS 'an event trigger';
COMMENT ON VIEW friends IS 'a view';
COMMENT ON SEQUENCE restarted IS 'a sequence';
COMMENT ON DOMAIN positive IS 'a domain';
COMMENT ON EXTENSION vector IS 'an extension';
"""

HARD_SQL = _TYPES + _TABLES + _CODE + _GRANTS
