-- An order has some dozens of entries: they are sorted when they are read. Keeping them sorted by four columns took half of writing them.
alter table timeline drop constraint timeline_pkey;
create index timeline_subject on timeline (subject);
