-- Customers' keys, encrypted by the installation's. They are no events, because events are kept for ever, and a key must be erasable.
-- Of an erased key the id stays, without anything else: so it is told from a key that has not arrived yet.

create table customer_keys (
    key_id      text primary key,
    wrapped_key text not null,                       -- '' once it was erased, as are the other two
    customer    text not null,                       -- keyed hashes of who it is: see sealing.py
    email       text not null
);

create index customer_keys_customer on customer_keys (customer, email) where customer <> '';
create index customer_keys_email on customer_keys (email) where email <> '';

-- When a record was set aside first. Its value is erased a bounded time after that, however often it fails again.
-- A service may keep dead letters in several schemas (see Service.schema).

do $$
declare
    place name;
begin
    for place in select schemaname from pg_tables where tablename = 'dead_letters' loop
        execute format('alter table %I.dead_letters add column if not exists set_aside_at timestamptz not null default now()', place);
    end loop;
end $$;
