"""The rule of a route, without the half of it that this app has no use for."""

from collections.abc import Callable

from quart.routing import QuartRule


class Route(QuartRule):
    """A rule whose builder of URLs is made when it is first called.

    Werkzeug writes, parses and compiles two Python functions for each rule, so that ``url_for`` is quick. Nothing here
    calls it, and for some 40 rules that was two thirds of what making the app takes (10 of 15 ms).
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        make = super()._compile_builder

        def build(rule: Route, **values: object) -> tuple[str, str]:
            return make(append_unknown)(rule, **values)

        return build
