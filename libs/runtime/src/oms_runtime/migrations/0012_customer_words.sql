-- Keyed hashes of the words of the names in a customer's orders; none once the key was erased.
alter table customer_keys add column words text[] not null default '{}';
