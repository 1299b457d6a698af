"""stand-in"""


def printable(name: str, width: int = 60) -> str:
    return name
