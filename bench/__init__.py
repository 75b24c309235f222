"""Measures what push saves over polling (``jobctl bench``), and holds the project's other benchmarks.

Nothing but a locustfile imports locust, and what a locustfile imports does not import trio: gevent, which locust
brings, patches the interpreter that trio needs as it is.
"""
