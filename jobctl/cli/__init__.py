"""The command line: one command a file. A command parses, makes its client calls and renders; it holds no rule."""
