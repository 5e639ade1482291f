-- Every attempt to prove an answer that came to an end, and canaries from their beginning: what the canary and the stop-loss know of
-- the past.
CREATE TABLE proof_attempt (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    contract     TEXT NOT NULL,
    request      TEXT NOT NULL,
    -- The model files that the answer was made with.
    model_digest TEXT NOT NULL,
    -- 'canary': nobody asked for it.
    purpose      TEXT NOT NULL CHECK (purpose IN ('asked', 'canary')),
    -- 'begun': under way, or its process died of it: it counts as tried. 'refused': EZKL refuses to prove, or its proof does not
    -- verify. 'failed': it did not come to that.
    outcome      TEXT NOT NULL CHECK (outcome IN ('begun', 'verified', 'refused', 'failed')),
    reason       TEXT,
    begun_at     INTEGER NOT NULL,
    ended_at     INTEGER,
    CHECK ((outcome IN ('refused', 'failed')) = (reason IS NOT NULL)),
    CHECK ((outcome = 'begun') = (ended_at IS NULL)),
    CHECK (outcome <> 'begun' OR purpose = 'canary')
) STRICT;
CREATE INDEX proof_attempt_outcome ON proof_attempt (model_digest, outcome);
CREATE INDEX proof_attempt_request ON proof_attempt (request);
