-- Money is nano-units of the company's currency, times are nanoseconds since 1970 in UTC, lists
-- and maps are JSON, words are those of the contract. Migrations are only ever added.

-- Counts changes of the organisation and the keys, so that a process can ask cheaply whether the
-- directory that it keeps in memory is still the one in here.
CREATE TABLE revision (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    value INTEGER NOT NULL
) STRICT;
INSERT INTO revision (id, value) VALUES (1, 0);

CREATE TABLE company (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
    id        TEXT NOT NULL,
    name      TEXT NOT NULL
) STRICT;

CREATE TABLE units (
    id     TEXT PRIMARY KEY,
    kind   TEXT NOT NULL CHECK (kind IN ('department', 'team')),
    name   TEXT NOT NULL,
    parent TEXT,
    closed INTEGER NOT NULL
) STRICT;

CREATE TABLE people (
    id        TEXT PRIMARY KEY,
    name      TEXT NOT NULL,
    email     TEXT,
    parent    TEXT,
    groups    TEXT NOT NULL,
    locale    TEXT,
    roles     TEXT NOT NULL,
    clearance TEXT,
    closed    INTEGER NOT NULL
) STRICT;

CREATE TABLE keys (
    id                  TEXT PRIMARY KEY,
    hash                TEXT NOT NULL UNIQUE,
    node                TEXT NOT NULL,
    name                TEXT NOT NULL,
    use_case            TEXT,
    requests_per_minute INTEGER,
    tokens_per_minute   INTEGER,
    parallel            INTEGER,
    models              TEXT,
    expires_at          INTEGER,
    floor               TEXT,
    keep_history        INTEGER NOT NULL,
    created_at          INTEGER NOT NULL,
    revoked_at          INTEGER
) STRICT;

CREATE TABLE budgets (
    id         INTEGER PRIMARY KEY,
    node       TEXT NOT NULL,
    period     TEXT NOT NULL,
    limit_nano INTEGER NOT NULL,
    soft       INTEGER NOT NULL,
    UNIQUE (node, period)
) STRICT;

-- What is spent and held at a budget in one period. A counter that is missing is counted from
-- the ledger and the open holds, so it may always be thrown away.
CREATE TABLE counters (
    id           INTEGER PRIMARY KEY,
    node         TEXT NOT NULL,
    period       TEXT NOT NULL,
    period_start INTEGER NOT NULL,
    spent        INTEGER NOT NULL,
    held         INTEGER NOT NULL,
    UNIQUE (node, period, period_start)
) STRICT;

-- Thresholds that were told, once per period.
CREATE TABLE notices (
    node         TEXT NOT NULL,
    period       TEXT NOT NULL,
    period_start INTEGER NOT NULL,
    threshold    REAL NOT NULL,
    time         INTEGER NOT NULL,
    PRIMARY KEY (node, period, period_start, threshold)
) STRICT, WITHOUT ROWID;

-- Running processes. Each keeps a lock of the operating system on a file of its own for as long
-- as it lives; the lease counts where that file is gone.
CREATE TABLE processes (
    id          TEXT PRIMARY KEY,
    started_at  INTEGER NOT NULL,
    lease_until INTEGER NOT NULL
) STRICT;

-- Money set aside. The draft is the row that recovery writes. There is no index on the hold's
-- name: its process knows the position, and one index less is one page less per call.
CREATE TABLE holds (
    position INTEGER PRIMARY KEY,
    id       TEXT NOT NULL,
    process  TEXT NOT NULL,
    time     INTEGER NOT NULL,
    amount   INTEGER NOT NULL,
    levels   TEXT NOT NULL,
    draft    TEXT NOT NULL
) STRICT;

-- One row per attempt, in the order of settling.
CREATE TABLE ledger (
    position                INTEGER PRIMARY KEY,
    time                    INTEGER NOT NULL,
    request_id              TEXT NOT NULL,
    attempt                 INTEGER NOT NULL,
    reason                  TEXT NOT NULL,
    model                   TEXT NOT NULL,
    vendor_model            TEXT,
    provider                TEXT NOT NULL,
    zone                    TEXT NOT NULL,
    sensitivity             TEXT NOT NULL,
    person                  TEXT,
    key                     TEXT,
    node                    TEXT NOT NULL,
    levels                  TEXT NOT NULL,
    use_case                TEXT,
    channel                 TEXT NOT NULL,
    task                    TEXT,
    policy                  TEXT,
    duration_ms             INTEGER,
    first_token_ms          INTEGER,
    metadata                TEXT NOT NULL,
    input_tokens            INTEGER,
    cached_input_tokens     INTEGER NOT NULL,
    cache_write_tokens      INTEGER NOT NULL,
    output_tokens           INTEGER,
    reasoning_tokens        INTEGER NOT NULL,
    cost_nano               INTEGER NOT NULL,
    currency                TEXT NOT NULL,
    input_price_nano        INTEGER NOT NULL,
    cached_input_price_nano INTEGER NOT NULL,
    cache_write_price_nano  INTEGER NOT NULL,
    output_price_nano       INTEGER NOT NULL,
    price_currency          TEXT NOT NULL,
    exchange_rate           TEXT NOT NULL,
    price_date              TEXT,
    price_source            TEXT NOT NULL,
    flags                   TEXT NOT NULL,
    ending                  TEXT NOT NULL
) STRICT;
CREATE INDEX ledger_by_time ON ledger (time);
CREATE INDEX ledger_by_request ON ledger (request_id);
