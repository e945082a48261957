"""What a Prometheus that a test has started says."""

import httpx


def value(address, query):
    """Return the first value of a query; None where there is none."""
    found = httpx.get(f"{address}/api/v1/query", params={"query": query}).raise_for_status().json()["data"]["result"]
    return float(found[0]["value"][1]) if found else None


def firing(address):
    """Return the labels of the alerts that are firing."""
    found = httpx.get(f"{address}/api/v1/alerts").raise_for_status().json()["data"]["alerts"]
    return [each["labels"] for each in found if each["state"] == "firing"]
