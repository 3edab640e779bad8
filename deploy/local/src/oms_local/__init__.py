"""The local stack: a real Kafka, a real PostgreSQL and the services as processes of this machine.

Start at `stack.Stack`. `testing` gives tests servers of their own.
"""
