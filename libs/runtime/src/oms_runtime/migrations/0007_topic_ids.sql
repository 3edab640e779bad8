-- The id of the topic that a checkpoint counts in: a topic that is deleted and created again has another one, and begins at offset 0.

alter table checkpoints add column topic_id text;    -- null until the partition is assigned for the first time
