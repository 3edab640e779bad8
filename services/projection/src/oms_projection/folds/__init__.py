"""What each topic means for the read models: one module a topic, each a function that folds an event into the changes of a batch."""
