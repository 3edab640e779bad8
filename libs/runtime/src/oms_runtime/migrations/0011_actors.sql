-- Who asked for what an event is, and why: empty where nobody did, because a service decided it.
alter table events add column actor text not null default '';
alter table events add column reason text not null default '';
