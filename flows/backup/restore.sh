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
restore.sh verify                         compare the SHA-256 of every object (ClickHouse's own files: by restoring them)
restore.sh globals                        print the roles and grants as SQL, to look at and feed to psql
restore.sh postgres DATABASE TARGET       restore DATABASE into the new database TARGET
restore.sh clickhouse DATABASE TARGET     restore DATABASE into the new ClickHouse database TARGET
restore.sh bucket BUCKET FOLDER           put the objects of BUCKET into FOLDER, each under its key (needs jq and GNU tar)

From the environment:
  AGE_KEY               file with the age secret key (AGE-SECRET-KEY-1...)
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY       the store's keys
  PGHOST, PGPORT, PGUSER, PGPASSWORD             a Postgres superuser
  CLICKHOUSE_URL, CLICKHOUSE_USER, CLICKHOUSE_PASSWORD
  CLICKHOUSE_STORE_ENDPOINT                      the store's URL as ClickHouse reaches it, where it is another
  BACKUP_BUCKET, BACKUP_SET_PREFIX, BACKUP_ENDPOINT   only where the set has moved
TEXT
}

fail() { echo "restore.sh: $*" >&2; exit 1; }
need() { command -v "$1" >/dev/null || fail "$1 is not installed; $2"; }

# --- what is in the set; each function calls the command it is given once for each line -------------------------------

objects() { :  # SHA-256, key
@OBJECTS@
}

postgres_databases() { :  # name, key, owner, encoding, locale provider, collate, ctype, ICU or builtin locale
@POSTGRES@
}

clickhouse_databases() { :  # name, folder, the base's folder where it is a difference to another set
@CLICKHOUSE@
}

buckets() { :  # name, key of the index, key of the list of packs
@BUCKETS@
}

properties() {  # prints the SQL for what belongs to a database but is not in its dump; psql puts in the name of the target
  case "$1" in
@PROPERTIES@
  esac
}

# --- reading objects --------------------------------------------------------------------------------------------------

fetch() {  # prints an object: the local copy, else from the store
  if [ -f "$1" ]; then cat -- "$1"; else
    need aws "install the AWS CLI, or copy the set into this folder first"
    aws ${ENDPOINT:+--endpoint-url "$ENDPOINT"} s3 cp --quiet "s3://$BUCKET/$PREFIX$1" -
  fi
}

check() {  # compares an object's hash
  local found
  found=$(fetch "$2" | sha256sum | cut -d' ' -f1)
  [ "$found" = "$1" ] || fail "$2 is damaged: SHA-256 $found, expected $1; use another set"
  echo "ok $2"
}

check_wanted() {
  if [ "$2" = "$WANTED" ]; then
    check "$1" "$2" >&2
    KNOWN=yes
  fi
}

open_object() {  # prints an object decrypted and decompressed, its hash compared before anything is fed to an engine
  need age "https://age-encryption.org"
  need zstd "https://facebook.github.io/zstd"
  [ -r "${AGE_KEY:-}" ] || fail "AGE_KEY must name the file with the age secret key"
  WANTED=$1 KNOWN=
  objects check_wanted
  [ -n "$KNOWN" ] || fail "no object $1 in this set"
  fetch "$1" | age --decrypt --identity "$AGE_KEY" | zstd --decompress --quiet --stdout
}

open_list() {  # prints a list of the set decompressed, its hash compared; lists are not encrypted
  need zstd "https://facebook.github.io/zstd"
  WANTED=$1 KNOWN=
  objects check_wanted
  [ -n "$KNOWN" ] || fail "no object $1 in this set"
  fetch "$1" | zstd --decompress --quiet --stdout
}

# --- Postgres ---------------------------------------------------------------------------------------------------------

conninfo() {  # a database name that libpq does not take for anything else
  local name=${1//\\/\\\\}
  printf "dbname='%s'" "${name//\'/\\\'}"
}

restore_postgres() {
  local name=$1 key=$2 owner=$3 encoding=$4 provider=$5 collate=$6 ctype=$7 locale=$8
  if [ "$name" != "$DATABASE" ]; then return; fi
  need pg_restore "install the PostgreSQL client of the server's major version"
  local options=(--template=template0 --owner="$owner" --encoding="$encoding" --lc-collate="$collate" --lc-ctype="$ctype")
  case "$provider" in
    icu) options+=(--locale-provider=icu --icu-locale="$locale") ;;
    builtin) options+=(--locale-provider=builtin --builtin-locale="$locale") ;;
  esac
  createdb "${options[@]}" -- "$TARGET"
  open_object "$key" | pg_restore --exit-on-error --dbname="$(conninfo "$TARGET")"
  properties "$name" | psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=target="$TARGET" --dbname=postgres
  echo "restored $name into $TARGET"
  DONE=yes
}

# --- ClickHouse -------------------------------------------------------------------------------------------------------

literal() {
  local text=${1//\\/\\\\}
  printf "'%s'" "${text//\'/\\\'}"
}

backtick() {
  local name=${1//\\/\\\\}
  printf '`%s`' "${name//\`/\\\`}"
}

s3() { printf 'S3(%s, %s, %s)' "$(literal "$1")" "$(literal "$AWS_ACCESS_KEY_ID")" "$(literal "$AWS_SECRET_ACCESS_KEY")"; }

restore_clickhouse() {
  local name=$1 folder=$2 base=$3 root settings=""
  if [ "$name" != "$DATABASE" ]; then return; fi
  need curl "it speaks to ClickHouse over HTTP"
  : "${AWS_ACCESS_KEY_ID:?}" "${AWS_SECRET_ACCESS_KEY:?}" "${CLICKHOUSE_URL:?}"
  root="${CLICKHOUSE_STORE_ENDPOINT:-${ENDPOINT:-https://s3.$AWS_DEFAULT_REGION.amazonaws.com}}/$BUCKET"
  [ -z "$base" ] || settings=" SETTINGS base_backup = $(s3 "$root/$base")"
  printf 'RESTORE DATABASE %s AS %s FROM %s%s' \
    "$(backtick "$name")" "$(backtick "$TARGET")" "$(s3 "$root/$PREFIX$folder")" "$settings" |
    curl --fail-with-body --silent --show-error --data-binary @- "$CLICKHOUSE_URL/" \
      --header @<(printf 'X-ClickHouse-User: %s\nX-ClickHouse-Key: %s\n' "${CLICKHOUSE_USER:-default}" "${CLICKHOUSE_PASSWORD:-}")
  echo "restored $name into $TARGET"
  DONE=yes
}

# --- buckets ----------------------------------------------------------------------------------------------------------

fetch_pack() {  # prints a pack: packs lie beside the folder of the sets, and are shared between them
  local key="${PREFIX%sets/*}packs/$1.tar.zst.age"
  if [ -f "packs/$1.tar.zst.age" ]; then cat -- "packs/$1.tar.zst.age"; else
    need aws "install the AWS CLI, or copy the packs into a folder packs here first"
    aws ${ENDPOINT:+--endpoint-url "$ENDPOINT"} s3 cp --quiet "s3://$BUCKET/$key" -
  fi
}

restore_bucket() {
  local name=$1 index=$2 packs=$3 id sha
  if [ "$name" != "$DATABASE" ]; then return; fi
  need jq "https://jqlang.org"
  need age "https://age-encryption.org"
  [ -r "${AGE_KEY:-}" ] || fail "AGE_KEY must name the file with the age secret key"
  mkdir -p -- "$TARGET"
  WORK=$(mktemp -d)
  trap 'rm -rf -- "$WORK"' EXIT
  open_list "$index" >"$WORK/index"
  open_list "$packs" | jq -r '"\(.id) \(.sha256)"' >"$WORK/packs"
  while read -r id sha <&3; do
    fetch_pack "$id" >"$WORK/pack"
    [ "$(sha256sum <"$WORK/pack" | cut -d' ' -f1)" = "$sha" ] || fail "pack $id is damaged; use another set"
    jq -j --arg pack "$id" 'select(.pack == $pack) | .member + "\u0000"' "$WORK/index" >"$WORK/members"
    age --decrypt --identity "$AGE_KEY" "$WORK/pack" | zstd --decompress --quiet --stdout |
      tar --extract --directory "$TARGET" --null --verbatim-files-from --files-from "$WORK/members"
  done 3<"$WORK/packs"
  echo "restored bucket $name into $TARGET"
  DONE=yes
}

# --- the commands -----------------------------------------------------------------------------------------------------

show_postgres() { echo "postgres $1"; }
show_clickhouse() { echo "clickhouse $1${3:+ (a difference to $3)}"; }
show_bucket() { echo "bucket $1"; }

case "${1:-}:$#" in
  list:1)
    echo "set $SET_ID"
    postgres_databases show_postgres
    clickhouse_databases show_clickhouse
    buckets show_bucket
    ;;
  verify:1) objects check ;;
  globals:1) open_object postgres/globals.sql.zst.age ;;
  postgres:3 | clickhouse:3)
    DATABASE=$2 TARGET=$3 DONE=
    "$1_databases" "restore_$1"
    [ -n "$DONE" ] || fail "no $1 database $DATABASE in this set; see: restore.sh list"
    ;;
  bucket:3)
    DATABASE=$2 TARGET=$3 DONE=
    buckets restore_bucket
    [ -n "$DONE" ] || fail "no bucket $DATABASE in this set; see: restore.sh list"
    ;;
  *)
    usage
    exit 2
    ;;
esac
