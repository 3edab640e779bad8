"""`oms`: the operator's command line."""
