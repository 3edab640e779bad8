"""What can go wrong, said so that a person can act on it."""


class StackError(Exception):
    """The stack cannot do what was asked. The text names the problem and the remedy."""
