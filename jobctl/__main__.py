"""``python -m jobctl`` is the ``jobctl`` command."""

from jobctl.cli.start import run

run()
