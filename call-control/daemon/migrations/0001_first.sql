-- One SQL for SQLite and PostgreSQL: ids and JSON as TEXT, times as BIGINT milliseconds since 1970, flags as BIGINT 0/1.
-- The tenant stands in every key. Rows written from facts have no foreign keys: a fact may come before or after its call.

CREATE TABLE tenant (
    tenant TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    recording_mode TEXT NOT NULL,
    call_retention_days BIGINT,
    recording_retention_days BIGINT
);

CREATE TABLE "user" (
    tenant TEXT NOT NULL REFERENCES tenant (tenant),
    id TEXT NOT NULL,
    login TEXT NOT NULL,
    name TEXT NOT NULL,
    extension TEXT NOT NULL,
    password_hash TEXT,
    admin BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    disabled_ms BIGINT,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX user_login ON "user" (login);
CREATE UNIQUE INDEX user_extension ON "user" (tenant, extension);

CREATE TABLE number (
    tenant TEXT NOT NULL REFERENCES tenant (tenant),
    number TEXT NOT NULL,
    user_id TEXT NOT NULL,
    recording_mode TEXT,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, number),
    FOREIGN KEY (tenant, user_id) REFERENCES "user" (tenant, id)
);

CREATE TABLE api_key (
    tenant TEXT NOT NULL REFERENCES tenant (tenant),
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    hash TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    revoked_ms BIGINT,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX api_key_hash ON api_key (hash);

CREATE TABLE refresh_token (
    tenant TEXT NOT NULL,
    hash TEXT NOT NULL,
    user_id TEXT NOT NULL,
    family TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    used_ms BIGINT,
    revoked_ms BIGINT,
    PRIMARY KEY (tenant, hash),
    FOREIGN KEY (tenant, user_id) REFERENCES "user" (tenant, id)
);
CREATE UNIQUE INDEX refresh_token_hash ON refresh_token (hash);
CREATE INDEX refresh_token_family ON refresh_token (tenant, family);

CREATE TABLE setting (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    changed_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE call (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    direction TEXT NOT NULL,
    state TEXT NOT NULL,
    caller_user TEXT,
    callee_user TEXT,
    from_name TEXT NOT NULL,
    from_number TEXT,
    to_name TEXT NOT NULL,
    to_number TEXT,
    recording_mode TEXT NOT NULL,
    started_ms BIGINT NOT NULL,
    answered_ms BIGINT,
    ended_ms BIGINT,
    cause TEXT,
    ended_by TEXT,
    sfu_node TEXT,
    retain_until_ms BIGINT,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX call_by_time ON call (tenant, started_ms, id);
CREATE INDEX call_by_caller ON call (tenant, caller_user, started_ms);
CREATE INDEX call_by_callee ON call (tenant, callee_user, started_ms);
CREATE INDEX call_running ON call (ended_ms);

CREATE TABLE leg (
    tenant TEXT NOT NULL,
    call_id TEXT NOT NULL,
    id TEXT NOT NULL,
    position BIGINT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    user_id TEXT,
    session TEXT,
    name TEXT NOT NULL,
    number TEXT,
    node TEXT,
    trunk TEXT,
    sip_call_id TEXT,
    muted BIGINT NOT NULL,
    held_by TEXT,
    started_ms BIGINT NOT NULL,
    answered_ms BIGINT,
    ended_ms BIGINT,
    cause TEXT,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX leg_by_call ON leg (tenant, call_id, position);

-- Append-only: nothing updates or deletes a line before its retention is over.
CREATE TABLE call_event (
    tenant TEXT NOT NULL,
    call_id TEXT NOT NULL,
    id TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    kind TEXT NOT NULL,
    leg TEXT,
    data TEXT NOT NULL,
    PRIMARY KEY (tenant, call_id, id)
);

CREATE TABLE recording (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    call_id TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    reason_code TEXT,
    recorder_node TEXT,
    asked_ms BIGINT NOT NULL,
    started_ms BIGINT,
    duration_ms BIGINT,
    files TEXT NOT NULL,
    retain_until_ms BIGINT,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX recording_by_call ON recording (tenant, call_id);

CREATE TABLE segment (
    tenant TEXT NOT NULL,
    recording_id TEXT NOT NULL,
    segment BIGINT NOT NULL,
    started_ms BIGINT NOT NULL,
    ended_ms BIGINT,
    gap_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, recording_id, segment)
);

CREATE TABLE consent_event (
    tenant TEXT NOT NULL,
    recording_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    played_ms BIGINT NOT NULL,
    status TEXT NOT NULL,
    leg TEXT NOT NULL,
    call_id TEXT NOT NULL,
    segment BIGINT,
    PRIMARY KEY (tenant, recording_id, kind, played_ms, status, leg)
);

-- Which facts were counted: each once, whoever repeats them.
CREATE TABLE fact_inbox (
    tenant TEXT NOT NULL,
    producer TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    stored_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, producer, sequence)
);

CREATE TABLE idempotency (
    tenant TEXT NOT NULL,
    actor TEXT NOT NULL,
    key TEXT NOT NULL,
    body_hash TEXT NOT NULL,
    status BIGINT,
    response TEXT,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, actor, key)
);

CREATE TABLE audit (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    result TEXT NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX audit_by_time ON audit (tenant, at_ms);
