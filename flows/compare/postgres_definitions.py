"""SQL that describes everything a Postgres database consists of, as pairs of what it is and how it is defined.

Every query yields (key, text), and yields the same after a dump and restore on the same major version: no oids, no attribute
numbers (dropped columns leave gaps), lists in a fixed order. Members of extensions are left to the extension, whose version is
compared. The connection has an empty search_path, so that casts to regclass and its like print qualified names.
"""

from __future__ import annotations

USER_SCHEMA = "nspname !~ '^pg_' AND nspname <> 'information_schema'"
FIRST_USER_OID = 16384
"""Objects with smaller oids were made by initdb (FirstNormalObjectId)."""


def own(catalogue: str, oid: str) -> str:
    """A condition: this object belongs to no extension."""
    member = f"e.classid = '{catalogue}'::regclass AND e.objid = {oid} AND e.deptype = 'e'"
    return f"NOT EXISTS (SELECT FROM pg_depend e WHERE {member})"


def identity(catalogue: str, oid: str, part: str = "0") -> str:
    """The type and name of any object, as Postgres itself spells them."""
    return f"(SELECT i.type || ' ' || i.identity FROM pg_identify_object('{catalogue}'::regclass, {oid}, {part}) i)"


def owner(column: str) -> str:
    """`owner <role>`."""
    return f"'owner ' || quote_ident(pg_get_userbyid({column}))"


def listed(array: str) -> str:
    """The elements of a text array, sorted."""
    return f"""(SELECT string_agg(v, ', ' ORDER BY v COLLATE "C") FROM unnest({array}) v)"""


RELATION_KIND = """CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
  WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' WHEN 'c' THEN 'type' END"""

RELATIONS = f"""
SELECT {RELATION_KIND} || ' ' || c.oid::regclass, concat_ws('; ', {owner("c.relowner")},
  CASE WHEN c.relpersistence = 'u' THEN 'unlogged' END,
  CASE WHEN a.amname <> 'heap' THEN 'using ' || a.amname END,
  CASE WHEN c.relrowsecurity THEN 'row security' END,
  CASE WHEN c.relforcerowsecurity THEN 'row security forced' END,
  CASE WHEN c.relkind = 'p' THEN 'partitioned by ' || pg_get_partkeydef(c.oid) END,
  (SELECT 'of ' || string_agg(inhparent::regclass::text, ', ' ORDER BY inhseqno) FROM pg_inherits WHERE inhrelid = c.oid),
  pg_get_expr(c.relpartbound, c.oid),
  CASE WHEN c.reloftype <> 0 THEN 'of type ' || format_type(c.reloftype, NULL) END,
  CASE WHEN c.relkind IN ('r', 'p') AND c.relreplident <> 'd' THEN 'replica identity ' || c.relreplident::text END,
  'options ' || {listed("c.reloptions")}, 'toast options ' || {listed("t.reloptions")},
  CASE WHEN c.relkind = 'm' AND NOT c.relispopulated THEN 'not populated' END,
  'server ' || quote_ident(s.srvname), 'options ' || {listed("f.ftoptions")},
  CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_am a ON a.oid = c.relam
LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
LEFT JOIN pg_foreign_table f ON f.ftrelid = c.oid
LEFT JOIN pg_foreign_server s ON s.oid = f.ftserver
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND c.relpersistence <> 't'
  AND {USER_SCHEMA} AND {own("pg_class", "c.oid")}
"""

# The order of an inheritance child's columns may change in a restore: pg_dump lets it inherit them all at once.
COLUMNS = f"""
SELECT 'column ' || c.oid::regclass || '.' || quote_ident(a.attname), concat_ws('; ',
  CASE WHEN c.relispartition OR NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
    THEN '#' || row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum) END,
  format_type(a.atttypid, a.atttypmod),
  CASE WHEN a.attnotnull THEN 'not null' END,
  CASE a.attidentity WHEN 'a' THEN 'identity always' WHEN 'd' THEN 'identity by default' END,
  CASE a.attgenerated WHEN 's' THEN 'generated stored' WHEN 'v' THEN 'generated virtual' END,
  'default ' || pg_get_expr(d.adbin, d.adrelid),
  CASE WHEN a.attcollation <> t.typcollation THEN 'collate ' || a.attcollation::regcollation END,
  CASE WHEN a.attstorage <> t.typstorage THEN 'storage ' || a.attstorage::text END,
  CASE WHEN a.attcompression <> '' THEN 'compression ' || a.attcompression::text END,
  'statistics ' || nullif(to_jsonb(a) ->> 'attstattarget', '-1'),
  'options ' || {listed("a.attoptions")}, 'foreign options ' || {listed("a.attfdwoptions")})
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND c.relpersistence <> 't'
  AND {USER_SCHEMA} AND {own("pg_class", "c.oid")}
"""

# A foreign key's copies on partitions follow from the parent's; plain NOT NULL (a constraint since 18) is in the column.
CONSTRAINTS = f"""
SELECT 'constraint ' || quote_ident(k.conname) || ' on '
    || CASE WHEN k.conrelid <> 0 THEN k.conrelid::regclass::text ELSE 'domain ' || k.contypid::regtype END,
  pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
WHERE {USER_SCHEMA} AND k.contype <> 't' AND NOT (k.contype = 'f' AND k.conparentid <> 0)
  AND NOT (k.contype = 'n' AND k.convalidated AND NOT k.connoinherit)
  AND {own("pg_class", "k.conrelid")} AND {own("pg_type", "k.contypid")}
"""

# pg_dump leaves out indexes that a failed CREATE INDEX CONCURRENTLY left invalid.
INDEXES = f"""
SELECT 'index ' || i.indexrelid::regclass, concat_ws('; ', pg_get_indexdef(i.indexrelid),
  CASE WHEN i.indisclustered THEN 'clustered' END, CASE WHEN i.indisreplident THEN 'replica identity' END)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {USER_SCHEMA} AND (i.indisvalid OR c.relkind = 'I') AND c.relpersistence <> 't' AND {own("pg_class", "i.indrelid")}
  AND (i.indisclustered OR i.indisreplident OR NOT EXISTS (
    SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')))
"""

SEQUENCES = f"""
SELECT 'parameters of sequence ' || c.oid::regclass, concat_ws('; ', format_type(s.seqtypid, NULL), 'start ' || s.seqstart,
  'increment ' || s.seqincrement, 'from ' || s.seqmin || ' to ' || s.seqmax, 'cache ' || s.seqcache,
  CASE WHEN s.seqcycle THEN 'cycle' END,
  (SELECT 'owned by ' || d.refobjid::regclass || '.' || quote_ident(a.attname)
   FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
   WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
     AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0))
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {USER_SCHEMA} AND c.relpersistence <> 't' AND {own("pg_class", "c.oid")}
"""

FUNCTIONS = f"""
SELECT CASE p.prokind WHEN 'p' THEN 'procedure ' WHEN 'a' THEN 'aggregate ' ELSE 'function ' END || p.oid::regprocedure,
  concat_ws('; ', {owner("p.proowner")}, CASE WHEN p.prokind = 'a' THEN concat_ws(', ', g.aggkind, g.aggtransfn, g.aggfinalfn,
    g.aggcombinefn, g.aggserialfn, g.aggdeserialfn, g.aggmtransfn, g.aggminvtransfn, g.aggmfinalfn, g.aggfinalextra,
    g.aggmfinalextra, g.aggfinalmodify, g.aggmfinalmodify, g.aggsortop::regoperator, g.aggtranstype::regtype, g.aggtransspace,
    g.aggmtranstype::regtype, g.aggmtransspace, g.agginitval, g.aggminitval, p.proparallel)
  ELSE pg_get_functiondef(p.oid) END)
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace LEFT JOIN pg_aggregate g ON g.aggfnoid = p.oid
WHERE {USER_SCHEMA} AND {own("pg_proc", "p.oid")}
  AND NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = 'pg_proc'::regclass AND i.objid = p.oid AND i.deptype = 'i')
"""

TRIGGERS = f"""
SELECT 'trigger ' || quote_ident(g.tgname) || ' on ' || g.tgrelid::regclass,
  concat_ws('; ', pg_get_triggerdef(g.oid), CASE WHEN g.tgenabled <> 'O' THEN 'enabled ' || g.tgenabled::text END)
FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT g.tgisinternal AND {USER_SCHEMA} AND {own("pg_class", "c.oid")}
"""

EVENT_TRIGGERS = f"""
SELECT 'event trigger ' || quote_ident(evtname), concat_ws('; ', {owner("evtowner")}, 'on ' || evtevent,
  'execute ' || evtfoid::regprocedure, 'enabled ' || evtenabled::text, 'when tag in ' || {listed("evttags")})
FROM pg_event_trigger x WHERE {own("pg_event_trigger", "x.oid")}
"""

RULES = f"""
SELECT 'rule ' || quote_ident(r.rulename) || ' on ' || r.ev_class::regclass,
  concat_ws('; ', pg_get_ruledef(r.oid), CASE WHEN r.ev_enabled <> 'O' THEN 'enabled ' || r.ev_enabled::text END)
FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.rulename <> '_RETURN' AND {USER_SCHEMA} AND {own("pg_class", "c.oid")}
"""

POLICIES = f"""
SELECT 'policy ' || quote_ident(p.polname) || ' on ' || p.polrelid::regclass,
  concat_ws('; ', CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END, 'for ' || p.polcmd::text,
  'to ' || (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', '
    ORDER BY pg_get_userbyid(r) COLLATE "C") FROM unnest(p.polroles) r),
  'using ' || pg_get_expr(p.polqual, p.polrelid), 'with check ' || pg_get_expr(p.polwithcheck, p.polrelid))
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE {own("pg_class", "c.oid")}
"""

TYPES = f"""
SELECT CASE WHEN t.typtype = 'd' THEN 'domain ' ELSE 'type ' END || format_type(t.oid, NULL),
  concat_ws('; ', {owner("t.typowner")},
  'enum ' || (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
    FROM pg_enum e WHERE e.enumtypid = t.oid),
  CASE WHEN t.typtype = 'd' THEN concat_ws('; ', format_type(t.typbasetype, t.typtypmod),
    CASE WHEN t.typnotnull THEN 'not null' END, 'default ' || t.typdefault,
    CASE WHEN t.typcollation <> b.typcollation THEN 'collate ' || t.typcollation::regcollation END) END,
  'range of ' || format_type(r.rngsubtype, NULL) || concat_ws(', ', '', r.rngmultitypid::regtype, r.rngcanonical, r.rngsubdiff,
    {identity("pg_opclass", "r.rngsubopc")}, nullif(r.rngcollation, 0)::regcollation),
  CASE WHEN t.typtype = 'b' THEN concat_ws(', ', t.typlen, t.typbyval, t.typcategory, t.typispreferred, t.typdelim, t.typinput,
    t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout, t.typanalyze, t.typalign, t.typstorage, t.typdefault) END)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_type b ON b.oid = t.typbasetype
LEFT JOIN pg_range r ON r.rngtypid = t.oid
WHERE t.typtype IN ('b', 'd', 'e', 'r') AND {USER_SCHEMA} AND {own("pg_type", "t.oid")}
  AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
"""

SCHEMAS = f"""
SELECT 'schema ' || quote_ident(nspname), {owner("nspowner")} FROM pg_namespace n
WHERE {USER_SCHEMA} AND {own("pg_namespace", "n.oid")}
"""

EXTENSIONS = """
SELECT 'extension ' || quote_ident(extname), 'in schema ' || quote_ident(nspname)
FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace
"""

STATISTICS = f"""
SELECT 'statistics ' || quote_ident(n.nspname) || '.' || quote_ident(s.stxname), concat_ws('; ', {owner("s.stxowner")},
  pg_get_statisticsobjdef(s.oid), 'target ' || nullif(to_jsonb(s) ->> 'stxstattarget', '-1'))
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
WHERE {USER_SCHEMA} AND {own("pg_statistic_ext", "s.oid")}
"""

PUBLICATIONS = f"""
SELECT 'publication ' || quote_ident(p.pubname), concat_ws('; ', {owner("p.pubowner")},
  (to_jsonb(p) - 'oid' - 'pubowner' - 'pubname')::text,
  'tables ' || (SELECT string_agg(r.prrelid::regclass || coalesce(' (' || (
      SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attname COLLATE "C") FROM pg_attribute a
      WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs)) || ')', '')
    || coalesce(' where ' || pg_get_expr(r.prqual, r.prrelid), ''), ', ' ORDER BY r.prrelid::regclass::text COLLATE "C")
    FROM pg_publication_rel r WHERE r.prpubid = p.oid),
  'schemas ' || (SELECT string_agg(quote_ident(m.nspname), ', ' ORDER BY m.nspname COLLATE "C")
    FROM pg_publication_namespace s JOIN pg_namespace m ON m.oid = s.pnnspid WHERE s.pnpubid = p.oid))
FROM pg_publication p WHERE {own("pg_publication", "p.oid")}
"""

# A user mapping's options hold passwords and are hidden from other roles, so only its existence counts.
FOREIGN = f"""
SELECT 'foreign-data wrapper ' || quote_ident(w.fdwname), concat_ws('; ', {owner("w.fdwowner")},
  'handler ' || nullif(w.fdwhandler, 0)::regproc, 'validator ' || nullif(w.fdwvalidator, 0)::regproc,
  'options ' || {listed("w.fdwoptions")})
FROM pg_foreign_data_wrapper w WHERE {own("pg_foreign_data_wrapper", "w.oid")}
UNION ALL
SELECT 'server ' || quote_ident(s.srvname), concat_ws('; ', {owner("s.srvowner")}, 'wrapper ' || quote_ident(w.fdwname),
  'type ' || s.srvtype, 'version ' || s.srvversion, 'options ' || {listed("s.srvoptions")})
FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw WHERE {own("pg_foreign_server", "s.oid")}
UNION ALL
SELECT 'user mapping for ' || coalesce(quote_ident(nullif(usename, '')), 'PUBLIC') || ' on server ' || quote_ident(srvname), ''
FROM pg_user_mappings
"""

OPERATORS = f"""
SELECT {identity("pg_operator", "o.oid")}, concat_ws('; ', {owner("o.oprowner")}, o.oprcode, o.oprcom::regoperator,
  o.oprnegate::regoperator, o.oprrest, o.oprjoin, o.oprcanmerge, o.oprcanhash)
FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE {USER_SCHEMA} AND {own("pg_operator", "o.oid")}
UNION ALL
SELECT {identity("pg_opfamily", "f.oid")}, concat_ws('; ', {owner("f.opfowner")},
  (SELECT string_agg(m, ', ' ORDER BY m COLLATE "C") FROM (
    SELECT {identity("pg_amop", "a.oid")} || ' ' || a.amopopr::regoperator FROM pg_amop a WHERE a.amopfamily = f.oid
    UNION ALL
    SELECT {identity("pg_amproc", "a.oid")} || ' ' || a.amproc FROM pg_amproc a WHERE a.amprocfamily = f.oid) x (m)))
FROM pg_opfamily f JOIN pg_namespace n ON n.oid = f.opfnamespace WHERE {USER_SCHEMA} AND {own("pg_opfamily", "f.oid")}
UNION ALL
SELECT {identity("pg_opclass", "c.oid")}, concat_ws('; ', {owner("c.opcowner")}, format_type(c.opcintype, NULL), c.opcdefault,
  nullif(c.opckeytype, 0)::regtype)
FROM pg_opclass c JOIN pg_namespace n ON n.oid = c.opcnamespace WHERE {USER_SCHEMA} AND {own("pg_opclass", "c.oid")}
UNION ALL
SELECT {identity("pg_cast", "c.oid")}, concat_ws('; ', nullif(c.castfunc, 0)::regprocedure, c.castcontext, c.castmethod)
FROM pg_cast c WHERE c.oid >= {FIRST_USER_OID} AND {own("pg_cast", "c.oid")}
"""

# A collation's version is the operating system's; its encoding becomes the database's own when it is restored.
TEXT_SUPPORT = f"""
SELECT 'collation ' || c.oid::regcollation, concat_ws('; ', {owner("c.collowner")},
  (to_jsonb(c) - 'oid' - 'collname' - 'collnamespace' - 'collowner' - 'collversion' - 'collencoding')::text)
FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace WHERE {USER_SCHEMA} AND {own("pg_collation", "c.oid")}
UNION ALL
SELECT {identity("pg_conversion", "c.oid")}, concat_ws('; ', {owner("c.conowner")}, pg_encoding_to_char(c.conforencoding),
  pg_encoding_to_char(c.contoencoding), c.conproc, c.condefault)
FROM pg_conversion c JOIN pg_namespace n ON n.oid = c.connamespace WHERE {USER_SCHEMA} AND {own("pg_conversion", "c.oid")}
UNION ALL
SELECT {identity("pg_ts_config", "c.oid")}, concat_ws('; ', {owner("c.cfgowner")}, {identity("pg_ts_parser", "c.cfgparser")},
  (SELECT string_agg(m.maptokentype || ' ' || m.mapdict::regdictionary, ', ' ORDER BY m.maptokentype, m.mapseqno)
   FROM pg_ts_config_map m WHERE m.mapcfg = c.oid))
FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace WHERE {USER_SCHEMA} AND {own("pg_ts_config", "c.oid")}
UNION ALL
SELECT {identity("pg_ts_dict", "d.oid")},
  concat_ws('; ', {owner("d.dictowner")}, {identity("pg_ts_template", "d.dicttemplate")}, d.dictinitoption)
FROM pg_ts_dict d JOIN pg_namespace n ON n.oid = d.dictnamespace WHERE {USER_SCHEMA} AND {own("pg_ts_dict", "d.oid")}
UNION ALL
SELECT {identity("pg_ts_parser", "p.oid")}, concat_ws('; ', p.prsstart, p.prstoken, p.prsend, p.prsheadline, p.prslextype)
FROM pg_ts_parser p JOIN pg_namespace n ON n.oid = p.prsnamespace WHERE {USER_SCHEMA} AND {own("pg_ts_parser", "p.oid")}
UNION ALL
SELECT {identity("pg_ts_template", "t.oid")}, concat_ws('; ', t.tmplinit, t.tmpllexize)
FROM pg_ts_template t JOIN pg_namespace n ON n.oid = t.tmplnamespace WHERE {USER_SCHEMA} AND {own("pg_ts_template", "t.oid")}
"""

LANGUAGES = f"""
SELECT 'language ' || quote_ident(l.lanname), concat_ws('; ', {owner("l.lanowner")}, l.lanpltrusted,
  nullif(l.lanplcallfoid, 0)::regproc, nullif(l.laninline, 0)::regproc, nullif(l.lanvalidator, 0)::regproc)
FROM pg_language l WHERE l.oid >= {FIRST_USER_OID} AND {own("pg_language", "l.oid")}
UNION ALL
SELECT 'access method ' || quote_ident(m.amname), concat_ws('; ', m.amtype, m.amhandler)
FROM pg_am m WHERE m.oid >= {FIRST_USER_OID} AND {own("pg_am", "m.oid")}
UNION ALL
SELECT {identity("pg_transform", "t.oid")}, concat_ws('; ', 'from ' || nullif(t.trffromsql, 0)::regprocedure,
  'to ' || nullif(t.trftosql, 0)::regprocedure)
FROM pg_transform t WHERE {own("pg_transform", "t.oid")}
"""

# By owner and grants, not one by one: there may be millions.
LARGE_OBJECTS = """
SELECT 'large objects of ' || quote_ident(pg_get_userbyid(lomowner)) || ' with grants '
    || coalesce((SELECT string_agg(v::text, ', ' ORDER BY v::text COLLATE "C") FROM unnest(lomacl) v), 'none'),
  count(*) || ' numbered ' || sum(hashint8extended(oid::bigint, 0))
FROM pg_largeobject_metadata GROUP BY 1
"""

# What initdb wrote is not the user's, except the comment on schema public, which pg_dump compares with initdb's.
COMMENTS = f"""
SELECT 'comment on ' || i.type || ' ' || i.identity, d.description
FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
WHERE (d.objoid >= {FIRST_USER_OID} OR (d.classoid = 'pg_namespace'::regclass AND d.objoid = to_regnamespace('public')))
  AND i.identity IS NOT NULL AND i.identity !~ '^pg_(temp|toast)'
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classoid AND e.objid = d.objoid AND e.deptype = 'e')
UNION ALL
SELECT 'security label of ' || l.provider || ' on ' || i.type || ' ' || i.identity, l.label
FROM pg_seclabel l, pg_identify_object(l.classoid, l.objoid, l.objsubid) i
WHERE NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = l.classoid AND e.objid = l.objoid AND e.deptype = 'e')
"""

DEFINITIONS = (
    RELATIONS,
    COLUMNS,
    CONSTRAINTS,
    INDEXES,
    SEQUENCES,
    FUNCTIONS,
    TRIGGERS,
    EVENT_TRIGGERS,
    RULES,
    POLICIES,
    TYPES,
    SCHEMAS,
    EXTENSIONS,
    STATISTICS,
    PUBLICATIONS,
    FOREIGN,
    OPERATORS,
    TEXT_SUPPORT,
    LANGUAGES,
    LARGE_OBJECTS,
    COMMENTS,
)
