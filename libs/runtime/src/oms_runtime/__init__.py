"""What every service runs on. It knows records, streams and states, and nothing of orders."""
