"""Payment: authorizes, captures, voids and refunds the payments of orders through a payment provider."""
