"""The demonstration: baskets, simulators, and the run that ends with a table and the audits."""
