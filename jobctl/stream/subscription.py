"""What one subscriber follows, how far it has been brought, and whether it is live."""

import msgspec

from jobctl.stream.groups import Group, Member
from jobctl.stream.hub import Hub


class Subscription(msgspec.Struct):
    """What ``subscribe_jobs`` asked for. ``position``: everything up to here has been handed over."""

    group: Group
    scope: str | None
    stats: bool
    conflate: bool
    position: int
    schedules: bool = False
    workers: bool = False
    live: bool = False
    greeted: bool = False
    snapshots: dict[str, bytes] = {}
    """Those that wait, by kind, until the reader has taken what was before."""

    def join(self, hub: Hub, member: Member) -> None:
        """Make ``member``, which has everything up to the hub's head, live."""
        self.live = True
        self.position = hub.head
        self.group = hub.join(self.group, member)
        if self.stats:
            hub.want_stats(self.scope, member, first=not self.greeted)
        if self.schedules:
            hub.schedules.follow(member)
        if self.workers:
            hub.workers.follow(member)
        self.greeted = True

    def leave(self, hub: Hub, member: Member) -> None:
        """Take ``member`` out; harmless if it is not live. Its position is the caller's to set."""
        if self.live:
            self.live, self.snapshots = False, {}
            hub.leave(self.group, member)
            if self.stats:
                hub.drop_stats(self.scope, member)
            if self.schedules:
                hub.schedules.unfollow(member)
            if self.workers:
                hub.workers.unfollow(member)
