"""How each topic's events are folded: one module for each topic, with a function that adds an event to the changes of a batch."""
