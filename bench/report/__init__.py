"""A judged run as a person reads it: terminal, Markdown, HTML; and as CI does: JUnit, JSON Schema.

``claims`` says in words what the figures are, once for all of them; nothing here computes a figure of its own.
"""
