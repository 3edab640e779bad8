"""The local stack: a real Kafka, a real PostgreSQL and the services as processes of this machine.

`stack.Stack` is the way in; `testing` gives tests servers of their own.
"""
