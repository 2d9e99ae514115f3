-- What ends or begins on a day is found by its claim: the index holds what is active, nothing else.
CREATE INDEX claim_over ON claim (kind, upper(period), holder);
CREATE INDEX claim_begun ON claim (kind, lower(period), holder);

-- Deaths are followed in the order of commits.
INSERT INTO search_progress (name) VALUES ('resident-deaths');
