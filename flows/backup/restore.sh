#!/usr/bin/env bash
# Restores this backup set with standard tools only: aws, age, zstd, sha256sum, the PostgreSQL clients, curl.
# Run it from a folder that holds the set, or from anywhere: what is not in the folder is read from the store.
set -euo pipefail

SET_ID=@SET_ID@
BUCKET=${BACKUP_BUCKET:-@BUCKET@}
PREFIX=${BACKUP_SET_PREFIX:-@PREFIX@}
ENDPOINT=${BACKUP_ENDPOINT:-@ENDPOINT@}
export AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-@REGION@}

usage() {
  cat <<TEXT
restore.sh list                           what is in the set
restore.sh verify                         compare the SHA-256 of every stored object
restore.sh globals                        print the roles and grants as SQL, to look at and feed to psql
restore.sh postgres DATABASE TARGET       restore DATABASE into the new database TARGET
restore.sh clickhouse DATABASE TARGET     restore DATABASE into the new ClickHouse database TARGET

From the environment:
  AGE_KEY               file with the age secret key (AGE-SECRET-KEY-1...)
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY       the store's keys
  PGHOST, PGPORT, PGUSER, PGPASSWORD             a Postgres superuser
  CLICKHOUSE_URL, CLICKHOUSE_USER, CLICKHOUSE_PASSWORD
  BACKUP_BUCKET, BACKUP_SET_PREFIX, BACKUP_ENDPOINT   only where the set has moved
TEXT
}

fail() { echo "restore.sh: $*" >&2; exit 1; }
need() { command -v "$1" >/dev/null || fail "$1 is not installed; $2"; }

# SHA-256 and key of every object
sums() { cat <<'TEXT'
@SUMS@
TEXT
}

# database, key, owner, encoding, locale provider, collate, ctype, ICU locale ("-" where there is none)
postgres_databases() { cat <<'TEXT'
@POSTGRES@
TEXT
}

# SQL that sets what belongs to a database but is not in its dump; DATABASE stands for its quoted name
properties() { case "$1" in
@PROPERTIES@
esac }

# database, folder, the base set's folder ("-" for a full backup)
clickhouse_databases() { cat <<'TEXT'
@CLICKHOUSE@
TEXT
}

fetch() {  # prints an object: the local copy, else from the store
  if [ -f "$1" ]; then cat -- "$1"; else
    need aws "install the AWS CLI, or copy the set into this folder first"
    aws ${ENDPOINT:+--endpoint-url "$ENDPOINT"} s3 cp --quiet "s3://$BUCKET/$PREFIX$1" -
  fi
}

check() {  # compares an object's hash before anything is fed to an engine
  local found
  found=$(fetch "$2" | sha256sum | cut -d' ' -f1)
  [ "$found" = "$1" ] || fail "$2 is damaged: SHA-256 $found, expected $1; use another set"
  echo "ok $2"
}

verify() { sums | while read -r sum key; do check "$sum" "$key"; done; }

verify_one() {
  local sum
  sum=$(sums | awk -v key="$1" '$2 == key {print $1}')
  [ -n "$sum" ] || fail "no object $1 in this set"
  check "$sum" "$1" >&2
}

open_object() {  # prints an object decrypted and decompressed
  need age "https://age-encryption.org"
  need zstd "https://facebook.github.io/zstd"
  [ -r "${AGE_KEY:-}" ] || fail "AGE_KEY must name the file with the age secret key"
  fetch "$1" | age --decrypt --identity "$AGE_KEY" | zstd --decompress --quiet --stdout
}

restore_postgres() {
  local database=$1 target=$2 name key owner encoding provider collate ctype icu
  need pg_restore "install the PostgreSQL client of the server's major version"
  while IFS=$'\t' read -r name key owner encoding provider collate ctype icu; do
    [ "$name" = "$database" ] || continue
    verify_one "$key"
    local options=(--template=template0 --owner="$owner" --encoding="$encoding" --lc-collate="$collate" --lc-ctype="$ctype")
    [ "$provider" = libc ] || options+=(--locale-provider="$provider")
    [ "$icu" = - ] || options+=(--icu-locale="$icu")
    createdb "${options[@]}" -- "$target"
    open_object "$key" | pg_restore --exit-on-error --dbname="$target"
    local quoted='"'${target//\"/\"\"}'"' sql
    sql=$(properties "$database")
    printf '%s\n' "${sql//@@DATABASE@@/$quoted}" | psql --quiet --set=ON_ERROR_STOP=1 --dbname=postgres
    echo "restored $database into $target"
    return
  done < <(postgres_databases)
  fail "no Postgres database $database in this set; see: restore.sh list"
}

backtick() { printf '`%s`' "${1//\`/\\\`}"; }

restore_clickhouse() {
  local database=$1 target=$2 name folder base keys settings=""
  need curl "it speaks to ClickHouse over HTTP"
  while IFS=$'\t' read -r name folder base; do
    [ "$name" = "$database" ] || continue
    keys="'${AWS_ACCESS_KEY_ID:?}', '${AWS_SECRET_ACCESS_KEY:?}'"
    local root="${ENDPOINT:-https://s3.$AWS_DEFAULT_REGION.amazonaws.com}/$BUCKET"
    [ "$base" = - ] || settings=" SETTINGS base_backup = S3('$root/$base', $keys)"
    printf 'RESTORE DATABASE %s AS %s FROM S3(%s, %s)%s' "$(backtick "$database")" "$(backtick "$target")" \
      "'$root/$PREFIX$folder'" "$keys" "$settings" |
      curl --fail-with-body --silent --show-error --data-binary @- "${CLICKHOUSE_URL:?}/" \
        --header @<(printf 'X-ClickHouse-User: %s\nX-ClickHouse-Key: %s\n' "${CLICKHOUSE_USER:-default}" "${CLICKHOUSE_PASSWORD:-}")
    echo "restored $database into $target"
    return
  done < <(clickhouse_databases)
  fail "no ClickHouse database $database in this set; see: restore.sh list"
}

list() {
  echo "set $SET_ID"
  postgres_databases | while IFS=$'\t' read -r name _; do echo "postgres $name"; done
  clickhouse_databases | while IFS=$'\t' read -r name _ base; do echo "clickhouse $name${base:+ (base: $base)}"; done
}

case "${1:-}:$#" in
  list:1) list ;;
  verify:1) verify ;;
  globals:1) verify_one postgres/globals.sql.zst.age; open_object postgres/globals.sql.zst.age ;;
  postgres:3) restore_postgres "$2" "$3" ;;
  clickhouse:3) restore_clickhouse "$2" "$3" ;;
  *) usage; exit 2 ;;
esac
