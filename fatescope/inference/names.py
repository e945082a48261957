"""How the answers of a service are named."""


def cell_id(request_id: str, number: int) -> str:
    """Return the id of a cell: that of its request, and its number among the cells of it that were classified."""
    return f"{request_id}-{number}"


def cell_of(answer: str) -> str:
    """Return the id of a cell by that of an answer: the answer to a request for one cell has the id of the request."""
    return answer if "-" in answer else cell_id(answer, 0)
