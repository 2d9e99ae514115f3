-- Whoever looks for index rows of a resource names their hash, too: ix_token_h, ix_date_w and
-- ix_num_w find them by (h, rid). Texts are looked for by rid alone (ix_str_r stays).
DROP INDEX ix_token_r;
DROP INDEX ix_date_r;
DROP INDEX ix_num_r;
