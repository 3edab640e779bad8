-- Where the states of a new state version are built while those in use stay in use (see refold.py). Both tables have the same columns,
-- indexes and settings, because they change places: a later migration that alters one of them must alter the other too.

create table states_next (
    key     text        primary key,
    version integer     not null,
    due_at  timestamptz,
    state   text        not null
) with (fillfactor = 80, toast_tuple_target = 8160);

create index states_next_due on states_next (due_at) where due_at is not null;

create table states_build (                          -- one row while a build is under way, or was interrupted
    state_version integer not null,
    position      bigint  not null                   -- the newest event that is folded into states_next
);
