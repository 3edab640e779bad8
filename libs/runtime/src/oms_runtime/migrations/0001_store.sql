-- What every service's store has: the events (which are also the outbox), the folded states, the consumer's checkpoints,
-- the relay's place, and the records that were set aside.

create table events (
    position       bigint      primary key,          -- 1, 2, 3 ... without gaps: assigned under the store's lock
    stream         text        not null,
    version        integer     not null,
    type           text        not null,
    topic          text        not null,
    key            text        not null,
    correlation_id text        not null,
    causation_id   text        not null,
    traceparent    text        not null,
    recorded_at    timestamptz not null,
    data           text        not null,
    unique (stream, version)
);

create table states (
    key     text        primary key,
    version integer     not null,                    -- events of the stream of this name; 0 where others' events alone are folded in
    fold    integer     not null,
    due_at  timestamptz,
    state   text        not null
) with (fillfactor = 80);

create index states_due on states (due_at) where due_at is not null;

create table checkpoints (
    topic       text    not null,
    partition   integer not null,
    next_offset bigint  not null,
    position    bigint  not null,                    -- the highest ce_position applied: what is not above it came twice
    primary key (topic, partition)
);

create table relay (
    position bigint not null                         -- everything up to here is acknowledged by the broker
);
insert into relay values (0);

create table dead_letters (
    letter_id        text        primary key,        -- topic/partition/offset
    sequence         bigint      generated always as identity,
    source_topic     text        not null,
    source_partition integer     not null,
    source_offset    bigint      not null,
    source_key       text        not null,
    headers          text        not null,
    value            bytea       not null,
    reason           text        not null,
    attempts         integer     not null,
    parked           boolean     not null,
    at               timestamptz not null
);

create index dead_letters_key on dead_letters (source_key, sequence);
