-- The audit trail is cut by age.
create index audit_trail_at on audit_trail (at);
