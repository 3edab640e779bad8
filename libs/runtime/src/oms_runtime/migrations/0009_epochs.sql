-- Positions are unique within a store's life. An epoch names that life to whoever reads the topics: it is new in a new store and in one that
-- was recovered. It begins with the time, so that of two epochs the later one sorts behind the other.

alter table relay
    add column epoch text not null
        default to_char(clock_timestamp() at time zone 'UTC', 'YYYYMMDDHH24MISS') || '-' || left(gen_random_uuid()::text, 8),
    add column epoch_after bigint not null default 0; -- events up to here are older than the epoch, and are published without one

-- What recognises the last record that was read. A service may keep checkpoints in several schemas (see Service.schema).

do $$
declare
    place name;
begin
    for place in select schemaname from pg_tables where tablename = 'checkpoints' loop
        execute format(
            'alter table %I.checkpoints
                 add column if not exists epoch text not null default '''',  -- of the record that `position` is from, empty: not known
                 add column if not exists timestamp_ms bigint,               -- of the record before next_offset, null: not known
                 add column if not exists timestamp_at bigint',              -- where next_offset was then: an older release moves it alone
            place
        );
    end loop;
end $$;
