"""Returns: takes goods back, and decides what is refunded for them."""
