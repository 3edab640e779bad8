"""The serial shipping container code (SSCC), which names a package: 17 digits and a check digit, as in the GS1 General Specifications."""


def check_digit(digits: str) -> int:
    """The modulo-10 check digit that belongs behind `digits`: weights 3 and 1 in turn, the rightmost digit weighing 3."""
    weighed = sum(int(digit) * (1 if index % 2 else 3) for index, digit in enumerate(reversed(digits)))
    return -weighed % 10


def is_sscc(text: str) -> bool:
    """Whether `text` is 18 digits, the last being the check digit of the others. The application identifier (00) is not part of it."""
    return len(text) == 18 and text.isascii() and text.isdigit() and int(text[-1]) == check_digit(text[:-1])


def sscc_of(serial: int) -> str:
    """The SSCC of a serial number; the same for the same number modulo 10^17.

    It begins with the digits of the number, so it is in no company's own range: whoever has a GS1 company prefix numbers packages by that.
    """
    digits = f"{serial % 10**17:017d}"
    return f"{digits}{check_digit(digits)}"
