# SPDX-License-Identifier: Apache-2.0
"""A customer's mutating webhook that writes on whatever is changed: labels, annotations, finalizers, tolerations."""

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from embellie_testbed.controlplane import ControlPlane

STAMP = {"key": "stamped", "operator": "Exists"}


def _stamp(raw: dict[str, Any]) -> list[dict[str, Any]]:
    is_job = raw["kind"] == "Job"
    pod = raw["spec"]["template"]["spec"] if is_job else raw["spec"]
    operations = [
        {"op": "add", "path": "/metadata/labels/team", "value": "stamped"},
        {"op": "add", "path": "/metadata/annotations/example.com~1seen", "value": "stamped"},
    ]
    if "note" in raw["metadata"]["annotations"]:
        operations.append({"op": "remove", "path": "/metadata/annotations/note"})
    if "example.com/stamped" not in raw["metadata"]["finalizers"]:
        operations.append({"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/stamped"})
    if STAMP not in pod["tolerations"]:
        path = f"/spec{'/template/spec' if is_job else ''}/tolerations/-"
        operations.append({"op": "add", "path": path, "value": STAMP})
    return operations


class _Answers(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        patch = base64.b64encode(json.dumps(_stamp(asked["request"]["object"])).encode()).decode()
        answer = {"uid": asked["request"]["uid"], "allowed": True, "patchType": "JSONPatch", "patch": patch}
        body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def stamping(plane: ControlPlane) -> Iterator[None]:
    """Have it called for every update of Jobs and pods, and go again."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(plane.server_certificate, plane.server_key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    authority = base64.b64encode(plane.server_certificate.with_name("ca.crt").read_bytes()).decode()
    update = {"operations": ["UPDATE"], "apiVersions": ["v1"]}
    webhook = {
        "name": "stamp.example.com",
        "clientConfig": {"url": f"https://127.0.0.1:{server.server_port}/", "caBundle": authority},
        "rules": [{**update, "apiGroups": ["batch"], "resources": ["jobs"]},
                  {**update, "apiGroups": [""], "resources": ["pods"]}],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
    }  # fmt: skip
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
    body = {**kind, "metadata": {"name": "stamp"}, "webhooks": [webhook]}
    plane.kubectl("apply", "-f", "-", input=json.dumps(body))
    try:
        yield
    finally:
        plane.kubectl("delete", "mutatingwebhookconfiguration", "stamp")
        server.shutdown()
        server.server_close()
