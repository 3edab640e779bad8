-- What a dead letter's value was before an operator replaced it: its event names both.

alter table dead_letters add column original_value bytea;
