"""Orders of shops and marketplaces as OrderPlaced. Pure functions: no clock, no I/O, and no exception for what a payload contains."""
