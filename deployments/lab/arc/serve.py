"""One ARC endpoint's process. Run as `python -m deployments.lab.arc.serve CONFIG_FILE NUMBER`. Standard library only.

It speaks what boto3's `route53-recovery-cluster` client speaks (JSON, target ToggleCustomerAPI) and, among the five,
POST /replica/promise and /replica/accept. CONFIG: {"folder", "endpoints": {NUMBER: [address, port]}, "control_panel",
"controls": {NAME: {"arn", "first"}}, "rules": [{"arn", "name", "controls", "at_least"}]}.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from deployments.lab.arc import rules
from deployments.lab.arc.cluster import Cluster, NoMajority, ballot_of
from deployments.lab.arc.replica import Replica, State

TARGET = "ToggleCustomerAPI."
BODY_MAX_BYTES = 1 << 20


class Refusal(Exception):
    """An answer that is an exception of the API: its name, its HTTP status, its fields."""

    def __init__(self, name: str, status: int, message: str, **fields: str) -> None:
        super().__init__(message)
        self.name, self.status, self.fields = name, status, {"message": message, **fields}


class Endpoint:
    """The operations."""

    def __init__(self, config: dict[str, Any], number: int) -> None:
        self.config = config
        self.names = {control["arn"]: name for name, control in config["controls"].items()}
        first = {control["arn"]: bool(control["first"]) for control in config["controls"].values()}
        others = [tuple(each) for key, each in config["endpoints"].items() if int(key) != number]
        self.replica = Replica(Path(config["folder"]) / f"arc-{number}.json")
        self.cluster = Cluster(number, self.replica, others, first)

    def get(self, asked: dict[str, Any]) -> dict[str, Any]:
        """GetRoutingControlState."""
        arn = self._known(asked.get("RoutingControlArn"))
        return {**self._told(arn, self.cluster.change(lambda state: state)), "RoutingControlArn": arn}

    def every(self, asked: dict[str, Any]) -> dict[str, Any]:
        """ListRoutingControls: all in one page."""
        panel = asked.get("ControlPanelArn", self.config["control_panel"])
        state = self.cluster.change(lambda state: state)
        those = self.names if panel == self.config["control_panel"] else {}
        extra = {"ControlPanelArn": panel, "ControlPanelName": "lab"}
        return {"RoutingControls": [{**self._told(arn, state), **extra} for arn in those]}

    def update_one(self, asked: dict[str, Any]) -> dict[str, Any]:
        """UpdateRoutingControlState."""
        return self._update([asked], asked.get("SafetyRulesToOverride", []))

    def update(self, asked: dict[str, Any]) -> dict[str, Any]:
        """UpdateRoutingControlStates: all of them at once, or none."""
        return self._update(asked.get("UpdateRoutingControlStateEntries", []), asked.get("SafetyRulesToOverride", []))

    def _update(self, entries: list[dict[str, Any]], overridden: list[str]) -> dict[str, Any]:
        wanted: State = {}
        for entry in entries:
            if entry.get("RoutingControlState") not in {"On", "Off"}:
                raise Refusal("ValidationException", 400, "RoutingControlState must be On or Off", reason="other")
            wanted[self._known(entry.get("RoutingControlArn"))] = entry["RoutingControlState"] == "On"

        def changed(state: State) -> State:
            rule = rules.broken(self.config["rules"], {**state, **wanted}, overridden)
            if rule is not None:
                text = f"the change would break the safety rule {rule}"
                raise Refusal("ConflictException", 409, text, resourceId=rule, resourceType="SafetyRule")
            return {**state, **wanted}

        self.cluster.change(changed)
        return {}

    def _told(self, arn: str, state: State) -> dict[str, Any]:
        return {
            "RoutingControlArn": arn,
            "RoutingControlName": self.names[arn],
            "RoutingControlState": "On" if state.get(arn) else "Off",
        }

    def _known(self, arn: Any) -> str:
        if arn not in self.names:
            text = f"there is no routing control {arn}"
            raise Refusal("ResourceNotFoundException", 404, text, resourceId=str(arn), resourceType="RoutingControl")
        return str(arn)


class Handler(BaseHTTPRequestHandler):
    """One request. `endpoint` is set on a subclass made at the start."""

    endpoint: Endpoint
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_POST(self) -> None:
        """An operation of the API, or a replica's business."""
        try:
            length = min(int(self.headers.get("Content-Length") or 0), BODY_MAX_BYTES)
            asked = json.loads(self.rfile.read(length) or b"{}")
            self._send(200, self._said(asked))
        except Refusal as refusal:
            self._send(refusal.status, {"__type": refusal.name, **refusal.fields}, name=refusal.name)
        except NoMajority:
            name = "EndpointTemporarilyUnavailableException"
            text = "fewer than three of the five endpoints answer one another; try another endpoint"
            self._send(503, {"__type": name, "message": text}, name=name)
        except (ValueError, TypeError, KeyError, AttributeError) as trouble:
            name = "ValidationException"
            self._send(
                400, {"__type": name, "message": f"not a request: {trouble}", "reason": "cannotParse"}, name=name
            )

    def _said(self, asked: dict[str, Any]) -> dict[str, Any]:
        here = self.endpoint
        match self.path:
            case "/replica/promise":
                return here.replica.promise(ballot_of(asked))
            case "/replica/accept":
                return here.replica.accept(ballot_of(asked), asked["state"])
        operations = {
            "GetRoutingControlState": here.get,
            "ListRoutingControls": here.every,
            "UpdateRoutingControlState": here.update_one,
            "UpdateRoutingControlStates": here.update,
        }
        target = self.headers.get("X-Amz-Target", "").removeprefix(TARGET)
        if target not in operations:
            raise Refusal("ValidationException", 400, f"unknown operation {target!r}", reason="unknownOperation")
        return operations[target](asked)

    def _send(self, status: int, said: dict[str, Any], *, name: str = "") -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        if name:
            self.send_header("x-amzn-ErrorType", name)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
        """Say nothing of each request."""


class Server(ThreadingHTTPServer):
    """Threads that don't keep it alive."""

    daemon_threads = True
    request_queue_size = 64


def serve(config: dict[str, Any], number: int) -> None:
    """Serve until SIGTERM."""
    address, port = config["endpoints"][str(number)]
    server = Server((address, port), type("EndpointHandler", (Handler,), {"endpoint": Endpoint(config, number)}))
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.2)


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2]))
