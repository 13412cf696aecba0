"""A component's instances at a site: counted, and made more. EC2 Auto Scaling groups, or a URL of one's own.

Separate from the verb, which decides nothing of clouds, and because plans and `dr check` count as well. Only the fewest
are ever raised: the API then makes more where there are less, never ends one, and no policy ends them before the users
have come. Each question is one request with a short time-out; trying again is the caller's.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from recovery.catalog import Catalog, S3Endpoint, Service
from recovery.errors import DrError, Failed
from recovery.observation import CapacitySeen
from recovery.value import canonical
from tasks import aws
from tasks.platform_door import ask
from tasks.probing import at_once
from tasks.unanswered import why

T = TypeVar("T")
PATIENCE_SECONDS = 2.0
_MAKING = threading.Lock()
QUOTA_API = "service-quotas"
QUOTA = ("ec2", "L-1216C47A")
"""Service Quotas' name of "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", in vCPUs."""


class Door(Protocol):
    """Where the instances of one component at one site are counted and asked for."""

    def look(self) -> CapacitySeen:
        """Count them. Never raises: silence, and what it means, is in the answer."""
        ...

    def raise_to(self, at_least: int) -> None:
        """Have at least so many; more are left as they are. Raises Failed."""
        ...

    def trouble(self) -> str:
        """Why the last of them did not start, where that is told; empty otherwise. Never raises."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """An EC2 Auto Scaling group. With weights it is counted in their units, as its own figures are."""

    name: str
    endpoint: S3Endpoint
    region: str

    def look(self) -> CapacitySeen:
        """See Door."""
        try:
            groups = self._call(lambda client: client.describe_auto_scaling_groups(AutoScalingGroupNames=[self.name]))
        except DrError as trouble:
            return CapacitySeen(why=trouble.fact)
        if not groups["AutoScalingGroups"]:
            return CapacitySeen(answer="answers", at_most=0, why=f"{self.region} has no Auto Scaling group {self.name}")
        told = groups["AutoScalingGroups"][0]
        serving = sum(
            int(each.get("WeightedCapacity") or 1)
            for each in told.get("Instances", ())
            if each["LifecycleState"] == "InService" and each["HealthStatus"] == "Healthy"
        )
        held = "Launch" in {each["ProcessName"] for each in told.get("SuspendedProcesses", ())}
        return CapacitySeen(
            answer="answers",
            at_least=told["MinSize"],
            desired=told["DesiredCapacity"],
            in_service=serving,
            at_most=min(serving, told["MaxSize"]) if held else told["MaxSize"],
            why=f"the process Launch of {self.name} is suspended" if held else "",
        )

    def raise_to(self, at_least: int) -> None:
        """See Door. A MinSize above the present size raises DesiredCapacity by itself; a policy that made more of them
        meanwhile is not undone, as it would be by naming a DesiredCapacity."""
        self._call(lambda client: client.update_auto_scaling_group(AutoScalingGroupName=self.name, MinSize=at_least))

    def trouble(self) -> str:
        """See Door: the newest scaling activity, when it failed."""
        try:
            told = self._call(
                lambda client: client.describe_scaling_activities(AutoScalingGroupName=self.name, MaxRecords=1)
            )
        except DrError:
            return ""
        return next((str(each.get("StatusMessage", "")) for each in told["Activities"] if _in_vain(each)), "")

    def _call(self, call: Callable[[Any], T]) -> T:
        return _called("Auto Scaling", self.region, lambda: call(_client("autoscaling", self.endpoint, self.region)))


def _in_vain(activity: Mapping[str, Any]) -> bool:
    return activity["StatusCode"] in ("Failed", "Cancelled")


class _Told(BaseModel):
    """What a URL says; more keys may come."""

    model_config = ConfigDict(extra="ignore")
    at_least: int | None = None
    desired: int
    in_service: int
    at_most: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Url:
    """A door of one's own."""

    url: str

    def look(self) -> CapacitySeen:
        """See Door."""
        try:
            body = ask("GET", self.url, what="its capacity", patience_seconds=PATIENCE_SECONDS)
            told = _Told.model_validate_json(body)
        except DrError as trouble:
            return CapacitySeen(why=trouble.fact)
        except ValidationError:
            return CapacitySeen(why='its capacity can\'t be read: it has to say {"desired": …, "in_service": …}')
        at_least = told.desired if told.at_least is None else told.at_least
        return CapacitySeen(answer="answers", **{**told.model_dump(), "at_least": at_least})

    def raise_to(self, at_least: int) -> None:
        """See Door."""
        body = canonical({"at_least": at_least})
        ask("PUT", self.url, what="more capacity", patience_seconds=PATIENCE_SECONDS, body=body)

    def trouble(self) -> str:
        """See Door: it tells none."""
        return ""


def door(catalog: Catalog, service: Service, component: str, site: str) -> Door | None:
    """The door of a component at a site; None where the catalog has none."""
    told = service.compute[component].sites.get(site) if component in service.compute else None
    if told is None or site not in catalog.sites:
        return None
    if told.group is not None:
        return Group(name=told.group, endpoint=catalog.sites[site].compute, region=catalog.sites[site].region)
    return Url(url=str(told.url))


def look(
    catalog: Catalog,
    service: Service,
    sites: Iterable[str],
    components: Iterable[str] | None = None,
    *,
    patience_seconds: float | None = None,
) -> dict[str, dict[str, CapacitySeen]]:
    """Each component's instances at each of the sites, all asked at once; what has not answered in time is silent."""
    patience_seconds = PATIENCE_SECONDS if patience_seconds is None else patience_seconds
    names = list(service.compute if components is None else components)
    doors = {(name, site): door(catalog, service, name, site) for site in sites for name in names}
    for each in doors.values():
        if isinstance(each, Group):
            _ready("autoscaling", each.endpoint, each.region)
    jobs = {"\n".join(key): each.look for key, each in doors.items() if each is not None}
    found = at_once(jobs, patience_seconds)
    seen: dict[str, dict[str, CapacitySeen]] = {}
    for key in jobs:
        name, _, site = key.partition("\n")
        late = CapacitySeen(why=f"{site} does not tell its instances within {patience_seconds:g} s")
        seen.setdefault(name, {})[site] = found.get(key, late)
    return seen


def vcpus(catalog: Catalog, service: Service, sites: Iterable[str]) -> Mapping[str, float | str]:
    """The account's quota at each of the sites that has groups of the service, or why it could not be asked."""
    grouped = {site for each in service.compute.values() for site, there in each.sites.items() if there.group}
    jobs = {site: partial(_quota, catalog, site) for site in sites if site in grouped and site in catalog.sites}
    for site in jobs:
        _ready(QUOTA_API, catalog.sites[site].compute, catalog.sites[site].region)
    found = at_once(jobs, PATIENCE_SECONDS)
    return {site: found.get(site, f"the quotas of {site} were not told in time") for site in jobs}


def _quota(catalog: Catalog, site: str) -> float | str:
    there, (service, code) = catalog.sites[site], QUOTA
    try:
        told = _called(
            "Service Quotas",
            there.region,
            lambda: _client(QUOTA_API, there.compute, there.region).get_service_quota(
                ServiceCode=service, QuotaCode=code
            ),
        )
    except DrError as trouble:
        return trouble.fact
    return float(told["Quota"]["Value"])


def _ready(service: str, endpoint: S3Endpoint, region: str) -> None:
    """Make the client before the clock runs: that is this machine's work, and must not be taken for their silence."""
    with suppress(DrError):  # whoever uses it is told why there is none
        _client(service, endpoint, region)


def _client(service: str, endpoint: S3Endpoint, region: str) -> Any:
    """One for each door, however many ask for it at once."""
    with _MAKING:
        return _made(service, endpoint, region)


@functools.lru_cache(maxsize=32)
def _made(service: str, endpoint: S3Endpoint, region: str) -> Any:
    return aws.client(service, endpoint, region=region, patience_seconds=PATIENCE_SECONDS)


def _called(what: str, region: str, call: Callable[[], T]) -> T:
    """The answer. Raises Failed with what the API said, or that it is silent; BadInput where no client can be made."""
    try:
        return call()
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "botocore":
            raise
        code, said = aws.said(error)
        raise Failed(
            f"{what} of {region}: {code}: {said}" if code else f"{what} of {region} is silent ({why(error)})",
            hint="see that region's control plane, and what the credentials of the site's `compute` may do",
        ) from None
