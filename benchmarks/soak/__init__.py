"""Both engines in one process under mixed load, for minutes or hours: answers checked, requests and memory counted."""
