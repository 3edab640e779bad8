"""How Orderstream speaks to Kafka. It knows no message of ours, no store and no service."""
