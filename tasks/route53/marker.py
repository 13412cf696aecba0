"""The way `inverted-health-check`: an object at the site that takes over, whose presence makes the other unhealthy.

Separate because it needs nothing but that site's own S3. It is put to leave, and removed to come back; both may be done
any number of times.
"""

from __future__ import annotations

from recovery.doors import HealthCheck
from recovery.errors import BadInput, Failed
from recovery.value import canonical, rfc3339
from tasks.kind import Facts
from tasks.route53.errand import Errand
from tasks.store import AlreadyThere

PATIENCE_SECONDS = 2.0


def move(errand: Errand) -> Facts:
    """Facts: `put`, `removed`, `left` (markers that could not be removed because their bucket is silent: health
    checkers that can't read it either count the site as healthy, and once it is back the marker speaks again). Raises
    Failed when a marker can't be put."""
    marked = {site: check for site, check in errand.checks().items() if check.marker}
    if not marked:
        raise BadInput(
            f"no record of {errand.dns.name} has a health check with a marker",
            hint="give one a `marker` in the catalog, or name another way under `by`",
        )
    put, removed, left = [], [], []
    # What makes the target unhealthy goes first: at no moment are both sites unhealthy by our doing.
    for site, check in sorted(marked.items(), key=lambda each: each[0] != errand.site):
        if (site == errand.site) is not check.inverted:
            _put(errand, check)
            put.append(str(check.marker))
        elif _removed(errand, check):
            removed.append(str(check.marker))
        else:
            left.append(str(check.marker))
    return {"put": [*put], "removed": [*removed], "left": [*left]}


def place(check: HealthCheck) -> tuple[str, str]:
    """Bucket and key of the marker. Raises BadInput for anything but s3://BUCKET/KEY."""
    bucket, _, key = str(check.marker).removeprefix("s3://").partition("/")
    if not str(check.marker).startswith("s3://") or not bucket or not key:
        raise BadInput(f"{check.marker!r} is no place of a marker", hint="write s3://BUCKET/KEY in the catalog")
    return bucket, key


def _put(errand: Errand, check: HealthCheck) -> None:
    bucket, key = place(check)
    said = {"run": errand.run, "name": errand.dns.name, "goes_to": errand.site, "at": rfc3339(errand.now())}
    try:
        errand.home.store(check.site, bucket, patience_seconds=PATIENCE_SECONDS).put(key, canonical({**said}))
    except AlreadyThere:
        return


def _removed(errand: Errand, check: HealthCheck) -> bool:
    bucket, key = place(check)
    try:
        errand.home.store(check.site, bucket, patience_seconds=PATIENCE_SECONDS).delete(key)
    except Failed:
        return False  # told in the facts; whether the name moves is seen at the name servers
    return True
