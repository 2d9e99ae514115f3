-- Audit of reads and refusals beside writes, and the answer to "who has seen this record?".
ALTER TABLE audit ADD COLUMN outcome int2 NOT NULL DEFAULT 0;    -- AuditEvent.outcome: 0, 4, 8, 12
CREATE INDEX audit_entity ON audit (fid, tid, txid, seq) WHERE fid IS NOT NULL;
CREATE INDEX audit_actor ON audit (actor, txid, seq);
