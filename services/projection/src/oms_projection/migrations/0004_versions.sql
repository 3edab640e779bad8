-- Each version of the read models has a schema of its own, with its checkpoints and dead letters (see versions.py). What a store has from
-- before becomes version 1, with nothing read again. A process of an older release finds no tables any more, and fills nothing.
-- A later migration of `checkpoints` or `dead_letters` has to alter them in every schema.

create table read_models (
    version    integer     primary key,
    in_use     boolean     not null default false,   -- the query API reads this one
    built_at   timestamptz,                          -- null while it is being built, or was interrupted
    records    bigint      not null default 0,       -- how many a build has read, of how many
    of_records bigint      not null default 0,
    comparison text                                  -- JSON: the newest comparison with the version in use
);
create unique index read_models_in_use on read_models (in_use) where in_use;

do $$
declare
    name text;
begin
    perform pg_advisory_xact_lock(7002);             -- the store's lock: no batch is under way
    if exists (select from checkpoints) or exists (select from dead_letters) then
        create schema read_models_1;
        foreach name in array array[
            'orders', 'order_lines', 'rejections', 'timeline', 'stock', 'stock_ledger', 'order_stock',
            'payments', 'authorizations', 'captures', 'refunds', 'deliveries', 'fulfillments', 'packages',
            'return_windows', 'returns', 'letters',
            'checkpoints', 'dead_letters'
        ] loop
            execute format('alter table %I set schema read_models_1', name);
        end loop;
        insert into read_models (version, in_use, built_at) values (1, true, now());
    else                                             -- a new store: the first process makes the tables of its version
        drop table orders, order_lines, rejections, timeline, stock, stock_ledger, order_stock, payments, authorizations,
            captures, refunds, deliveries, fulfillments, packages, return_windows, returns, letters;
    end if;
end $$;
