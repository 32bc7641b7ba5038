"""The three shapes in which Jina refuses (recorded 2025-11 to 2026-07)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Refusal(Exception):
    """An answer that is no 200. ``body`` takes the id of the request and gives the JSON."""

    status = 500

    def body(self, request_id: str) -> dict[str, Any]:
        raise NotImplementedError


class GatewayRefusal(Refusal):
    """The flat shape: authentication, balance and rate limits, refused before the application."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def body(self, request_id: str) -> dict[str, Any]:
        return {"detail": self.message, "request_id": request_id, "code": self.code}


class ApplicationRefusal(GatewayRefusal):
    """The nested shape: the application understood the call and can not do it (400 and 500)."""

    def body(self, request_id: str) -> dict[str, Any]:
        return {"detail": {"message": self.message, "request_id": request_id, "code": self.code}}


@dataclass(frozen=True, slots=True)
class Finding:
    """One wrong field of a body. ``field`` is the path below the body, without the word ``body``."""

    field: tuple[str, ...]
    message: str
    type: str
    input: Any

    def to_json(self) -> dict[str, Any]:
        path = " -> ".join(("body", *self.field))
        return {"field": path, "message": self.message, "type": self.type, "input": self.input}


class Invalid(Refusal):
    """The 422 shape: a list of the wrong fields, each echoing the input it had."""

    status = 422

    def __init__(self, *findings: Finding) -> None:
        super().__init__("validation error")
        self.findings = findings

    def body(self, request_id: str) -> dict[str, Any]:
        return {
            "detail": _count(self.findings),
            "request_id": request_id,
            "errors": [finding.to_json() for finding in self.findings],
        }


def _count(findings: Sequence[Finding]) -> str:
    if len(findings) == 1:
        return "Validation error in 1 field"
    return f"Validation errors in {len(findings)} fields"


def model_not_found(name: object) -> ApplicationRefusal:
    return ApplicationRefusal(400, "INPUT_MODEL_NOT_FOUND", f"Model '{name}' not found")


def too_long(limit: int) -> ApplicationRefusal:
    """As measured on the hosted API, 2026-07."""
    message = (
        f"Input text exceeds the model's maximum of {limit} tokens. "
        "Use 'truncate: true' to automatically truncate, or split into smaller chunks."
    )
    return ApplicationRefusal(400, "INPUT_TOKEN_LIMIT_EXCEEDED", message)


def internal() -> ApplicationRefusal:
    return ApplicationRefusal(500, "INTERNAL_ERROR", "Internal server error")


RATE_LIMITED = GatewayRefusal(
    429, "RATE_REQUEST_LIMIT_EXCEEDED", "Request rate limit exceeded: 500/500 requests per minute"
)
NO_BALANCE = GatewayRefusal(
    403,
    "AUTHZ_INSUFFICIENT_BALANCE",
    "Insufficient account balance. Top up your account at https://jina.ai/api-dashboard/key-manager.",
)
UNAVAILABLE = GatewayRefusal(503, "SERVICE_UNAVAILABLE", "Service unavailable")
TIMED_OUT = GatewayRefusal(504, "SERVICE_TIMEOUT", "Service timeout")
NOT_FOUND = GatewayRefusal(404, "RESOURCE_NOT_FOUND", "Not Found")

USUAL: dict[int, Refusal] = {
    401: GatewayRefusal(401, "AUTH_INVALID_API_KEY", "Invalid API key"),
    403: NO_BALANCE,
    404: NOT_FOUND,
    429: RATE_LIMITED,
    500: internal(),
    503: UNAVAILABLE,
    504: TIMED_OUT,
}
"""What Jina says with each status, for a fault that gives no body of its own."""
