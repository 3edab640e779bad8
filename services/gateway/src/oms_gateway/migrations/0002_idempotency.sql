-- What was asked for with an `Idempotency-Key`, by whom: the same key again is the same request. A row lives for a day.
create table idempotency_keys (
    actor text not null,
    key text not null,
    fingerprint text not null, -- of the operation, its parameters, body and reason
    event_id text not null,
    sent boolean not null default false, -- whether the broker has it
    sending_until timestamptz not null, -- until then a request of this key is taken to be in hand
    at timestamptz not null,
    primary key (actor, key)
);
create index idempotency_keys_at on idempotency_keys (at);
