"""Returns: takes goods back, and says what is refunded for them."""
