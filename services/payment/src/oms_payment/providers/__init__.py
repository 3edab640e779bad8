"""Payment providers: the port that all of them implement, and one module for each."""
