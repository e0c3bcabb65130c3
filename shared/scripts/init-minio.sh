#!/usr/bin/env bash
# Create private buckets on any S3-compatible server: MinIO, SeaweedFS, R2, Railway's buckets, AWS. Safe to repeat.
#
#   export MINIO_ENDPOINT=https://... MINIO_ACCESS_KEY=... MINIO_SECRET_KEY=...
#   shared/scripts/init-minio.sh [bucket ...]          # default: langfuse backups
#
# Needs bash and curl (7.86 or newer), nothing else; keys are never arguments, which everybody on the machine can read.
# For each bucket: creates it where it is missing, takes away a policy that lets strangers read (as `mc anonymous set` makes
# it), and proves that strangers can neither read an object nor list the bucket, with an object that it removes again.
# MINIO_REGION: default us-east-1. MINIO_WAIT_SECONDS: how long the server may take to answer, default 60.
set -euo pipefail

fail() {
  printf 'init-minio: %s\n' "$*" >&2
  exit 1
}

: "${MINIO_ENDPOINT:?set MINIO_ENDPOINT to the URL of the server}"
: "${MINIO_ACCESS_KEY:?set MINIO_ACCESS_KEY}"
: "${MINIO_SECRET_KEY:?set MINIO_SECRET_KEY}"
endpoint=${MINIO_ENDPOINT%/}
region=${MINIO_REGION:-us-east-1}
wait_seconds=${MINIO_WAIT_SECONDS:-60}
[[ $endpoint =~ ^https?:// ]] || fail "MINIO_ENDPOINT: expected http(s)://host[:port]"
buckets=("$@")
[[ ${#buckets[@]} -gt 0 ]] || buckets=(langfuse backups)

# In curl's configuration a value stands in double quotes.
quoted() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

# s3 METHOD PATH [curl options]: prints the status, signed with the keys; stranger: the same without any.
request() {
  local method=$1 path=$2
  shift 2
  local how=(--request "$method")
  [[ $method != HEAD ]] || how=(--head)
  curl --silent --output /dev/null --write-out '%{http_code}' --connect-timeout 5 --max-time 30 "${how[@]}" "$@" \
    "$endpoint$path" || true # without an answer the status is 000
}
s3() {
  request "$@" --aws-sigv4 "aws:amz:$region:s3" --header "x-amz-content-sha256: UNSIGNED-PAYLOAD" \
    --config <(printf 'user = %s\n' "$(quoted "$MINIO_ACCESS_KEY:$MINIO_SECRET_KEY")")
}
stranger() { request "$@"; }

refused() { [[ $1 == 401 || $1 == 403 ]]; }

# The server may still be starting.
deadline=$((SECONDS + wait_seconds))
until [[ $(stranger GET /) != 000 ]]; do
  ((SECONDS < deadline)) || fail "$endpoint does not answer after $wait_seconds s; is the server up, and the URL right?"
  sleep 1
done

for bucket in "${buckets[@]}"; do
  [[ $bucket =~ ^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$ ]] || fail "$bucket: bad name; 3 to 63 of a-z, 0-9, . and -"
  status=$(s3 HEAD "/$bucket")
  case $status in
    200) made=exists ;;
    404)
      body=()
      [[ $region == us-east-1 || $region == auto ]] ||
        body=(--data "<CreateBucketConfiguration><LocationConstraint>$region</LocationConstraint></CreateBucketConfiguration>")
      status=$(s3 PUT "/$bucket" ${body[@]+"${body[@]}"})
      [[ $status == 200 || $status == 409 ]] || fail "$bucket: not created (HTTP $status); may this key create buckets?"
      [[ $(s3 HEAD "/$bucket") == 200 ]] || fail "$bucket: the name is taken by somebody else; choose another"
      made=created
      ;;
    401 | 403) fail "$bucket: access denied (HTTP $status); are the keys right, and is the bucket theirs?" ;;
    *) fail "$bucket: HTTP $status, expected 200 or 404; is $endpoint an S3 server?" ;;
  esac

  probe="/$bucket/.init-minio-$$-$RANDOM"
  status=$(s3 PUT "$probe" --data probe)
  [[ $status == 200 ]] || fail "$bucket: an object could not be written (HTTP $status); is the disk full, may this key write?"
  trap 's3 DELETE "$probe" >/dev/null' EXIT # also when it ends here
  read_status=$(stranger GET "$probe") list_status=$(stranger GET "/$bucket?list-type=2")
  if ! refused "$read_status" || ! refused "$list_status"; then
    s3 DELETE "/$bucket?policy=" >/dev/null
    read_status=$(stranger GET "$probe") list_status=$(stranger GET "/$bucket?list-type=2")
    made="$made, was public"
  fi
  s3 DELETE "$probe" >/dev/null
  trap - EXIT
  refused "$read_status" || fail "$bucket: everybody can read its objects (HTTP $read_status); change that on the server now"
  refused "$list_status" || fail "$bucket: everybody can list it (HTTP $list_status); change that on the server now"
  printf '%s: %s, private\n' "$bucket" "$made"
done
