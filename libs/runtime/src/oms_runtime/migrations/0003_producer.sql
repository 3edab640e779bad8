-- All leaders are one producer to the broker, which refuses what does not follow on what it has.

alter table relay add column producer_id bigint;     -- null until the first has published
