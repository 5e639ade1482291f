-- The ledger: the daemon's only queue. Each table is a state machine whose CHECK constraints say what a state needs;
-- the guarded updates in src/ledger move the rows. Times are unix seconds: `*_at` on this machine's clock,
-- `requested` and `deadline` on the chain's.

-- Whose ledger this is: chain, contracts, modeler. Another daemon's is refused.
CREATE TABLE identity (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- The next block to read, for each stream of logs.
CREATE TABLE cursor (
    stream TEXT PRIMARY KEY,
    block  INTEGER NOT NULL CHECK (block >= 0)
) STRICT;

-- Blocks that a stream left for later: after a long absence the newest are read first.
CREATE TABLE gap (
    stream     TEXT NOT NULL,
    from_block INTEGER NOT NULL CHECK (from_block >= 0),
    to_block   INTEGER NOT NULL,
    PRIMARY KEY (stream, from_block),
    CHECK (from_block <= to_block)
) STRICT, WITHOUT ROWID;

-- Heads of the chain as watchers saw them: the newest that the chain still has is where a reorg forked off.
CREATE TABLE block (
    number INTEGER PRIMARY KEY CHECK (number >= 0),
    hash   TEXT NOT NULL
) STRICT;

-- Every reorg that was noticed. What was read before one may not be written after it.
CREATE TABLE reorg (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The newest block that is known to be on both sides.
    fork       INTEGER NOT NULL,
    noticed_at INTEGER NOT NULL
) STRICT;

CREATE TABLE request (
    contract        TEXT NOT NULL,
    id              TEXT NOT NULL CHECK (length(id) = 66),
    input           TEXT NOT NULL,
    consumer        TEXT NOT NULL,
    block           INTEGER NOT NULL,
    block_hash      TEXT NOT NULL,
    requested       INTEGER NOT NULL,
    deadline        INTEGER NOT NULL,
    state           TEXT NOT NULL DEFAULT 'seen' CHECK (state IN
                        ('seen', 'inferred', 'answering', 'final', 'failed', 'expired', 'answered', 'orphaned')),
    reason          TEXT,
    -- What was inferred, and the digests of the model files that did it and of the witness that proves it. No model_value:
    -- the model ran without candle.
    model_value     REAL,
    circuit_value   REAL,
    submitted_value REAL,
    model_digest    TEXT,
    witness         TEXT,
    -- The calls that answer it; no commitment where no proof registry is set.
    answer          BLOB,
    commitment      BLOB,
    -- Claim: who works on the row, and until when nobody else may.
    owner           TEXT,
    lease_until     INTEGER NOT NULL DEFAULT 0,
    tries           INTEGER NOT NULL DEFAULT 0,
    next_try        INTEGER NOT NULL DEFAULT 0,
    seen_at         INTEGER NOT NULL,
    changed_at      INTEGER NOT NULL,
    PRIMARY KEY (contract, id),
    CHECK (state <> 'failed' OR reason IS NOT NULL),
    CHECK (state NOT IN ('inferred', 'answering', 'final')
           OR (submitted_value IS NOT NULL AND circuit_value IS NOT NULL
               AND answer IS NOT NULL AND model_digest IS NOT NULL AND witness IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX request_work ON request (state, deadline);
CREATE INDEX request_block ON request (block);

-- Someone asked for proofs: the log that did so is the row's identity, so that reading it twice adds nothing.
CREATE TABLE challenge (
    transaction_hash TEXT NOT NULL,
    log_index        INTEGER NOT NULL,
    -- 'ipfs': ZKMLChallengeGiven, answered with a CID. 'chain': ProofRequested, answered with the proof itself.
    route            TEXT NOT NULL CHECK (route IN ('ipfs', 'chain')),
    -- The validator to answer; for 'chain' the registry itself.
    asker            TEXT NOT NULL,
    -- A request id, or the CID of a document that names several.
    payload          TEXT NOT NULL,
    block            INTEGER NOT NULL,
    block_hash       TEXT NOT NULL,
    state            TEXT NOT NULL DEFAULT 'asked' CHECK (state IN
                         ('asked', 'proved', 'uploaded', 'sending', 'final', 'failed', 'orphaned')),
    reason           TEXT,
    cid              TEXT,
    -- The call that delivers the proof.
    delivery         BLOB,
    owner            TEXT,
    lease_until      INTEGER NOT NULL DEFAULT 0,
    tries            INTEGER NOT NULL DEFAULT 0,
    next_try         INTEGER NOT NULL DEFAULT 0,
    seen_at          INTEGER NOT NULL,
    changed_at       INTEGER NOT NULL,
    PRIMARY KEY (transaction_hash, log_index),
    CHECK (state <> 'failed' OR reason IS NOT NULL),
    CHECK (state <> 'uploaded' OR cid IS NOT NULL),
    CHECK (state NOT IN ('sending', 'final') OR delivery IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX challenge_block ON challenge (block);

-- Which requests a challenge asks about, in its order.
CREATE TABLE challenge_request (
    transaction_hash TEXT NOT NULL,
    log_index        INTEGER NOT NULL,
    position         INTEGER NOT NULL,
    contract         TEXT NOT NULL,
    request          TEXT NOT NULL,
    PRIMARY KEY (transaction_hash, log_index, position),
    FOREIGN KEY (transaction_hash, log_index) REFERENCES challenge
) STRICT, WITHOUT ROWID;

-- A proof is computed once, however often it is asked for.
CREATE TABLE proof (
    contract   TEXT NOT NULL,
    request    TEXT NOT NULL,
    vk_digest  TEXT NOT NULL,
    seconds    REAL NOT NULL,
    proved_at  INTEGER NOT NULL,
    PRIMARY KEY (contract, request, vk_digest)
) STRICT, WITHOUT ROWID;

-- What must happen on chain. The idempotency key is its identity: queueing it twice adds nothing.
CREATE TABLE tx (
    key              TEXT PRIMARY KEY,
    purpose          TEXT NOT NULL CHECK (purpose IN ('commit', 'answer', 'respond', 'prove', 'claim', 'fill')),
    -- What it serves: a request ('commit', 'answer') or a challenge ('respond', 'prove'). A reward ('claim') and a gap in
    -- the nonces ('fill') serve nothing else.
    contract         TEXT,
    request          TEXT,
    transaction_hash TEXT,
    log_index        INTEGER,
    target           TEXT NOT NULL,
    calldata         BLOB NOT NULL,
    deadline         INTEGER,
    -- Signed only once this one is in a block or given up: no answer is mined before its commitment.
    after            TEXT REFERENCES tx (key),
    state            TEXT NOT NULL DEFAULT 'queued' CHECK (state IN
                         ('queued', 'signed', 'broadcast', 'mined', 'final', 'cancelling', 'fatal')),
    reason           TEXT,
    -- The attempt that was mined.
    mined_hash       TEXT,
    mined_block      INTEGER,
    mined_block_hash TEXT,
    mined_time       INTEGER,
    gas_used         INTEGER,
    tries            INTEGER NOT NULL DEFAULT 0,
    next_try         INTEGER NOT NULL DEFAULT 0,
    queued_at        INTEGER NOT NULL,
    changed_at       INTEGER NOT NULL,
    CHECK (state NOT IN ('fatal', 'cancelling') OR reason IS NOT NULL),
    -- 'final' without a block: the chain held already what it was to bring about, and the reason says so.
    CHECK ((mined_hash IS NOT NULL AND mined_block IS NOT NULL AND mined_block_hash IS NOT NULL
            AND mined_time IS NOT NULL)
           OR NOT (state = 'mined' OR (state = 'final' AND reason IS NULL))),
    CHECK ((request IS NOT NULL AND contract IS NOT NULL) = (purpose IN ('commit', 'answer'))),
    CHECK ((transaction_hash IS NOT NULL AND log_index IS NOT NULL) = (purpose IN ('respond', 'prove')))
) STRICT, WITHOUT ROWID;
CREATE INDEX tx_work ON tx (state, deadline);

-- Every transaction ever signed, in the order of signing, written before the node sees it.
CREATE TABLE attempt (
    hash        TEXT PRIMARY KEY,
    tx          TEXT NOT NULL REFERENCES tx (key),
    -- 'cancel': a transfer to ourselves on the nonce of work whose purpose has lapsed.
    kind        TEXT NOT NULL CHECK (kind IN ('work', 'cancel')),
    sender      TEXT NOT NULL,
    nonce       INTEGER NOT NULL CHECK (nonce >= 0),
    -- The MultiSig's sequence id, and when it refuses the call, on the chain's clock.
    sequence_id INTEGER,
    expires     INTEGER,
    raw         BLOB NOT NULL,
    max_fee_wei TEXT NOT NULL,
    -- With a gas price of before EIP-1559: that price.
    priority_fee_wei TEXT NOT NULL,
    gas         INTEGER NOT NULL,
    -- 'lost': its nonce was spent by another transaction; only a reorg gives it back. 'void': it was mined, and did not do
    -- what it was for.
    state       TEXT NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'mined', 'lost', 'void')),
    -- When it was signed, on the chain's clock.
    chain_time  INTEGER NOT NULL,
    signed_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX attempt_tx ON attempt (tx, state);
CREATE INDEX attempt_nonce ON attempt (sender, nonce);
