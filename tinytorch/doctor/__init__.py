"""Examining a device: does its library compute every op, gradient and gradient of a gradient right?

`python -m tinytorch doctor --device NAME` does it for any registered device, also a third party's, and prints the card.
"""

from tinytorch.doctor.examiner import Card, Finding, examine

__all__ = ["Card", "Finding", "examine"]
