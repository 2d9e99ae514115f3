"""The statements of the write door, each with its purpose.

The capital names in the first part are CTEs; `fhir_store.flush` joins those that have rows. Rows
that are only inserted come from `unnest` among the columns: in FROM each array goes through a store
of tuples first, which costs a tenth of the whole insertion.
"""

# new_resources: the first version of resources that were not there
NEW = """
new_resources AS (
  INSERT INTO resource (rid, rkey, tid, fid, ver, lu, op, del, chash, pset, body)
  SELECT unnest(%(n_rid)b::int8[]), unnest(%(n_rkey)b::int8[]), unnest(%(n_tid)b::int4[]),
         unnest(%(n_fid)b::text[]), unnest(%(n_ver)b::int4[]),
         timestamptz 'epoch' + unnest(%(n_lu)b::int8[]) * interval '1 microsecond',
         unnest(%(n_op)b::text[])::"char", unnest(%(n_op)b::text[]) = 'd',
         unnest(%(n_chash)b::int8[]), unnest(%(n_pset)b::text[])::int2[],
         unnest(%(n_body)b::text[]))"""

# kept_versions, next_versions: the stored version goes to the history, the new one takes its place
NEXT = """
next_rows AS MATERIALIZED (
  SELECT rid, ver, timestamptz 'epoch' + lu * interval '1 microsecond' AS lu, op::"char" AS op,
         chash, pset::int2[] AS pset, body
    FROM unnest(%(u_rid)b::int8[], %(u_ver)b::int4[], %(u_lu)b::int8[], %(u_op)b::text[],
                %(u_chash)b::int8[], %(u_pset)b::text[], %(u_body)b::text[])
         AS u (rid, ver, lu, op, chash, pset, body)),
kept_versions AS (
  INSERT INTO resource_history (rid, ver, tid, lu, txid, op, body)
  SELECT r.rid, r.ver, r.tid, r.lu, r.txid, r.op, r.body
    FROM resource r JOIN next_rows u ON u.rid = r.rid),
next_versions AS (
  UPDATE resource r
     SET ver = u.ver, lu = u.lu, txid = change_number(), op = u.op, del = u.op = 'd',
         chash = u.chash, pset = u.pset, body = u.body
    FROM next_rows u
   WHERE r.rid = u.rid)"""

# between_versions: versions that came and went within this call
BETWEEN = """
between_versions AS (
  INSERT INTO resource_history (rid, ver, tid, lu, txid, op, body)
  SELECT rid, ver, tid, timestamptz 'epoch' + lu * interval '1 microsecond', change_number(),
         op::"char", body
    FROM unnest(%(b_rid)b::int8[], %(b_ver)b::int4[], %(b_tid)b::int4[], %(b_lu)b::int8[],
                %(b_op)b::text[], %(b_body)b::text[]) AS b (rid, ver, tid, lu, op, body))"""

# lost_*: index rows that the new content no longer has
LOST_TOKENS = """
lost_tokens AS (
  DELETE FROM ix_token x
   USING unnest(%(lt_h)b::int8[], %(lt_rid)b::int8[], %(lt_sid)b::int4[]) AS g (h, rid, sid)
   WHERE x.rid = g.rid AND x.h = g.h AND x.sid = g.sid)"""
LOST_REFERENCES = """
lost_references AS (
  DELETE FROM ix_ref x
   USING unnest(%(lr_tgt)b::int8[], %(lr_pid)b::int4[], %(lr_rid)b::int8[]) AS g (tgt, pid, rid)
   WHERE x.rid = g.rid AND x.pid = g.pid AND x.tgt = g.tgt)"""
LOST_DATES = """
lost_dates AS (
  DELETE FROM ix_date x
   USING unnest(%(ld_h)b::int8[], %(ld_lo)b::int8[], %(ld_hi)b::int8[], %(ld_rid)b::int8[])
         AS g (h, lo, hi, rid)
   WHERE x.rid = g.rid AND x.h = g.h AND x.lo = g.lo AND x.hi = g.hi)"""
LOST_NUMBERS = """
lost_numbers AS (
  DELETE FROM ix_num x
   USING unnest(%(ln_h)b::int8[], %(ln_lo)b::float8[], %(ln_hi)b::float8[], %(ln_rid)b::int8[])
         AS g (h, lo, hi, rid)
   WHERE x.rid = g.rid AND x.h = g.h AND x.lo = g.lo AND x.hi = g.hi)"""
LOST_STRINGS = """
lost_strings AS (
  DELETE FROM ix_str x
   USING unnest(%(ls_h)b::int8[], %(ls_v)b::text[], %(ls_rid)b::int8[], %(ls_x)b::int4[])
         AS g (h, v, rid, x)
   WHERE x.rid = g.rid AND x.h = g.h AND x.v = g.v AND x.x = g.x)"""
# All of a resource's, also those that a custom parameter brought later.
LOST_GRAMS = """
lost_grams AS (
  DELETE FROM ix_gram WHERE rid = ANY(%(lg_rid)b::int8[]))"""

# gained_*: index rows that are new
GAINED_TOKENS = """
gained_tokens AS (
  INSERT INTO ix_token (h, rid, sid)
  SELECT unnest(%(gt_h)b::int8[]), unnest(%(gt_rid)b::int8[]), unnest(%(gt_sid)b::int4[]))"""
GAINED_REFERENCES = """
gained_references AS (
  INSERT INTO ix_ref (tgt, pid, rid)
  SELECT unnest(%(gr_tgt)b::int8[]), unnest(%(gr_pid)b::int4[]), unnest(%(gr_rid)b::int8[]))"""
GAINED_DATES = """
gained_dates AS (
  INSERT INTO ix_date (h, lo, hi, rid)
  SELECT unnest(%(gd_h)b::int8[]), unnest(%(gd_lo)b::int8[]), unnest(%(gd_hi)b::int8[]),
         unnest(%(gd_rid)b::int8[]))"""
GAINED_NUMBERS = """
gained_numbers AS (
  INSERT INTO ix_num (h, lo, hi, rid)
  SELECT unnest(%(gn_h)b::int8[]), unnest(%(gn_lo)b::float8[]), unnest(%(gn_hi)b::float8[]),
         unnest(%(gn_rid)b::int8[]))"""
GAINED_STRINGS = """
gained_strings AS (
  INSERT INTO ix_str (h, v, rid, x)
  SELECT unnest(%(gs_h)b::int8[]), unnest(%(gs_v)b::text[]), unnest(%(gs_rid)b::int8[]),
         unnest(%(gs_x)b::int4[]))"""
# One row a resource; all grams come in one array, of which each has its slice.
GAINED_GRAMS = """
gained_grams AS (
  INSERT INTO ix_gram (rid, g)
  SELECT rid, (%(gg_g)b::int4[])[low:high]
    FROM unnest(%(gg_rid)b::int8[], %(gg_low)b::int4[], %(gg_high)b::int4[])
         AS g (rid, low, high))"""

# new_codes, new_systems: what this process has not yet seen in the dictionaries
CODES = """
new_codes AS (
  INSERT INTO code_dict (pid, sid, code, display)
  SELECT * FROM unnest(%(c_pid)b::int4[], %(c_sid)b::int4[], %(c_code)b::text[],
                       %(c_display)b::text[])
      ON CONFLICT DO NOTHING)"""
SYSTEMS = """
new_systems AS (
  INSERT INTO sysuri (sid, uri)
  SELECT * FROM unnest(%(y_sid)b::int4[], %(y_uri)b::text[])
      ON CONFLICT DO NOTHING)"""

# audited: who wrote what, in the commit of the write
AUDIT = """
audited AS (
  INSERT INTO audit (at, actor, trace_id, source, action, tid, fid, ver, detail)
  SELECT timestamptz 'epoch' + unnest(%(a_at)b::int8[]) * interval '1 microsecond',
         unnest(%(a_actor)b::text[]), unnest(%(a_trace)b::text[]), unnest(%(a_source)b::text[]),
         unnest(%(a_action)b::text[]), unnest(%(a_tid)b::int4[]), unnest(%(a_fid)b::text[]),
         unnest(%(a_ver)b::int4[]), unnest(%(a_detail)b::text[]))"""

# lock_current: the current rows of the named resources, in one order, kept from other writers
LOCK_CURRENT = """
SELECT rid, tid, fid, ver, lu, op::text, chash, body
  FROM resource WHERE rkey = ANY(%(rkeys)b::int8[])
 ORDER BY rid FOR NO KEY UPDATE"""

# read_current: the same, keeping nobody away
READ_CURRENT = """
SELECT rid, tid, fid, ver, lu, op::text, chash, body
  FROM resource WHERE rkey = ANY(%(rkeys)b::int8[])"""

# read_together: rows that are kept from other writers, and others that are only read
READ_TOGETHER = """
WITH kept AS (
  SELECT rid, tid, fid, ver, lu, op::text, chash, body
    FROM resource WHERE rkey = ANY(%(rkeys)b::int8[])
   ORDER BY rid FOR NO KEY UPDATE)
SELECT * FROM kept
UNION ALL
SELECT rid, tid, fid, ver, lu, op::text, chash, body
  FROM resource WHERE rkey = ANY(%(others)b::int8[])"""

# lock_keys: make writers of the same thing that is not there yet wait for each other
LOCK_KEYS = "SELECT pg_advisory_xact_lock(k) FROM unnest(%(keys)b::int8[]) AS k"

# take_numbers: blocks of 64 resource numbers
TAKE_NUMBERS = "SELECT nextval('rid_seq') FROM generate_series(1, %(blocks)s)"

# find_by_identifier: which resources carry these identifiers
FIND_BY_IDENTIFIER = """
SELECT x.h, x.sid, r.fid
  FROM unnest(%(h)b::int8[], %(sid)b::int4[], %(tid)b::int4[]) AS w (h, sid, tid)
  JOIN ix_token x ON x.h = w.h AND x.sid = w.sid
  JOIN resource r ON r.rid = x.rid AND r.tid = w.tid
 WHERE NOT r.del
 ORDER BY r.rid"""
