"""Payment: holds, takes and gives back the money of orders, through a payment provider."""
