"""A ClickHouse server made of chDB: the ClickHouse 26.9 engine in this process, behind ClickHouse's HTTP interface.

    __main__    one process, one data directory    handler     HTTP: answers, errors, connections
    database    life cycle, sessions, admission    request     credentials, parameters, statement and data
    connection  what is set for one statement      body        a request's body: unchunked, decompressed, in pieces
    query       one statement: insert, stream, run statement   verb, format, where data begins
    watch       clients that go away               errors      codes and HTTP statuses

What it speaks: clickhouse-connect 1.x, the Node client, curl. GET and POST, statement in the URL or the body, `param_x`,
multipart forms, settings and `database` per request, `session_id` (with timeout, check, close), `query_id`, `default_format`,
`wait_end_of_query`, Content-Encoding gzip, deflate, zstd, lz4 of requests; Summary, Format, Timezone, Query-Id and Exception
headers; late failures in the marked block of 25.11 with the connection broken. Inserts and results stream.

What is otherwise than on a server, or worth knowing, measured with chDB 4.4.0 (engine 26.9.2.1):

Interface
- One user, no others: CREATE USER, ROLE and ROW POLICY, and `system.users`, are refused (ACCESS_DENIED). No TLS, no native TCP
  protocol, no external tables, no `compress=1`/`decompress=1`; answers are never compressed.
- Results stream in Native, RowBinary, TSV, CSV (without names) and the JSON...EachRow formats. In any other format, and WITH
  TOTALS, the whole result is in the server's memory first: the engine gives every piece of a stream its own header and footer.
- The engine's own query id cannot be chosen. `KILL QUERY WHERE query_id = '<id of the request>'` is translated; in
  `system.processes` and `system.query_log` look for `log_comment`, which carries the request's id unless the client sets it.
- `readonly` within a session is judged by the statement's first word, because a connection never gives it back.
- A request that waits for a result sends no progress headers: use ASYNC for long BACKUP and RESTORE.
- Named collections survive restarts, in clear text in the data directory, as on a server; those given to `ClickHouseEngine` are
  made anew at every start. There is CREATE ... IF NOT EXISTS, DROP and ALTER, but no CREATE OR REPLACE.
- A client that goes away ends its query only with `cancel_http_readonly_queries_on_client_close=1`, as on a server
  (clickhouse-connect sends it).

Storage
- `default` is Atomic here (chDB's own is an Overlay; it is replaced at every start). `system` is a Memory database: `query_log`
  and `backup_log` begin empty at every start. `backup_log` exists from the first backup on.
- Acknowledged inserts survive SIGKILL of the process, not of the machine (no fsync, as in ClickHouse's defaults).
- A directory belongs to one process. SYSTEM STOP MERGES ends with it, as on a server.
- `async_insert` is accepted and the insert is synchronous: it is acknowledged when its part is on disk.

BACKUP and RESTORE
- BACKUP ... ASYNC outlives the request and its connection. Its status in `system.backups` is lost with the process, whether
  stopped or killed: an unknown id means unknown, never success; `<path>/.backup`, which is written last, decides.
- A failed or killed backup leaves its objects but no `.backup`. While its `.lock` is there, another BACKUP to that path is
  refused ("is being written already", BACKUP_ALREADY_EXISTS), so a path is for one use.
- KILL QUERY of a BACKUP, by the query_id in `system.backups` (in a subquery too) or by the request's: while it retries S3 it
  is BACKUP_CANCELLED within 2 s; while it copies, the kill takes effect between two files, so with `max_backup_bandwidth` it
  takes as long as the largest file, and the backup may end as BACKUP_CREATED all the same.
- Stopping the engine gives backups 2 s and then leaves them behind half-written, without `.backup`.
- An S3 server that refuses connections: only `backup_restore_s3_retry_attempts` counts (4 attempts: 0.4 s, then S3_ERROR 499),
  as a parameter of the request or in SETTINGS; `s3_retry_attempts` does nothing for BACKUP. The default of 1000 outlives an
  S3 server that is away for a while: killed for 2 s in mid-backup, the backup ended well; with 3 attempts it failed after 7 s.
- An S3 server that accepts connections and never answers (SIGSTOP): the first request times out after 0.5 s, whatever
  `s3_request_timeout_ms` and `s3_use_adaptive_timeouts` say; the second waits without limit (watched for 420 s) and KILL QUERY
  does not end it. With `backup_restore_s3_retry_attempts=0` the backup fails after the first. Keep a deadline of your own.
- `max_backup_bandwidth` is honoured as a parameter and in SETTINGS.
- A table may be written to during its backup; what is in the backup is the parts there were when it came to that table.
- RESTORE DATABASE a AS b rewrites views, `TO` targets and dictionary sources to b. A refreshable view refreshes at once after
  it, so its content is the new database's own. Parts get new names.
- RESTORE does not read columns: one flipped byte in a column file is RESTORED, count() and other columns are right, and
  reading the column fails with CHECKSUM_DOESNT_MATCH (40) or, if it hit a block's header, CANNOT_READ_ALL_DATA (33). CHECK
  TABLE finds it as well (and did not hang). A shortened object (S3_OBJECT_CHANGED_DURING_READ, 1009) and a missing one
  (S3_ERROR, 499) fail the RESTORE, which leaves the empty table behind.
- JSON, Variant, Dynamic, AggregateFunction, projections, skip indexes, Memory and Log tables, dictionaries and inner tables of
  views come back as they were.
- A bucket's name needs three characters or more: a shorter one is read as a virtual host.
"""
