"""The serial shipping container code (SSCC), which names a package: 17 digits and a check digit, as in the GS1 General Specifications."""


def check_digit(digits: str) -> int:
    """The modulo-10 check digit that belongs behind `digits`: weights 3 and 1 in turn, the rightmost digit weighing 3."""
    weighed = sum(int(digit) * (1 if index % 2 else 3) for index, digit in enumerate(reversed(digits)))
    return -weighed % 10


def is_sscc(text: str) -> bool:
    """Whether `text` is 18 digits, the last being the check digit of the others. The application identifier (00) is not part of it."""
    return len(text) == 18 and text.isascii() and text.isdigit() and int(text[-1]) == check_digit(text[:-1])
