"""Who asks, and whether that is allowed: the API server knows both, and is asked for both.

Its answers are kept for a few seconds, so that going through a job page by page does not ask it again for each. So long
does a right that was taken away still hold.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgspec

from mapreduce_operator.adapters.kube import ApiSession
from mapreduce_operator.adapters.kube.errors import translated
from mapreduce_operator.core.names import GROUP
from mapreduce_operator.serving.errors import RefusedError

KEPT_SECONDS: Final = 10.0
_KEPT: Final = 1000
"""So many answers of a kind are kept."""
_TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 - a path
_ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

T = TypeVar("T")


class User(msgspec.Struct, frozen=True):
    """Somebody whom the API server knows."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, list[str]] = msgspec.field(default_factory=dict)


class _TokenStatus(msgspec.Struct):
    authenticated: bool = False
    user: User = User()
    error: str = ""


class _TokenReview(msgspec.Struct):
    status: _TokenStatus


class _AccessStatus(msgspec.Struct):
    allowed: bool = False
    reason: str = ""


class _AccessReview(msgspec.Struct):
    status: _AccessStatus


@dataclass(frozen=True, slots=True)
class Wish:
    """To read something of one object: a subresource that only this API knows, so that it is a right of its own."""

    resource: str
    subresource: str
    namespace: str
    name: str


class Access:
    """Both methods raise RefusedError for who must not, and ClusterError where the API server does not say."""

    def __init__(self, api: ApiSession, clock: Callable[[], float] = time.monotonic) -> None:
        self._api: Final = api
        self._users: Final = _Kept[User | None](clock)
        self._answers: Final = _Kept[_AccessStatus](clock)

    async def user(self, authorization: str) -> User:
        """The user whose bearer token stands in this Authorization header."""
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise RefusedError(
                401,
                "Unauthorized",
                "the request has no bearer token: send the header `Authorization: Bearer TOKEN`; `kubectl create token "
                "ACCOUNT` makes one of a service account",
            )
        # Of the token itself nothing is kept.
        user = await self._users.get(hashlib.sha256(token.encode()).digest(), lambda: self._review(token))
        if user is None:
            raise RefusedError(401, "Unauthorized", "the API server does not know the bearer token, or it has expired")
        return user

    async def check(self, user: User, wish: Wish) -> None:
        """Whether the user may."""
        who = (user.username, user.uid, user.groups, msgspec.json.encode(user.extra, order="sorted"))
        told = await self._answers.get((who, wish), lambda: self._ask(user, wish))
        if not told.allowed:
            why = f": {told.reason}" if told.reason else ""
            raise RefusedError(
                403,
                "Forbidden",
                f"{user.username} may not get {wish.resource}/{wish.subresource} of {wish.name} in the namespace "
                f"{wish.namespace}{why}; the roles view, edit and admin hold that right",
            )

    async def _review(self, token: str) -> User | None:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        answer = await self._api.request("POST", _TOKEN_REVIEWS, about="a review of a token", body=body)
        with translated("the review of a token"):
            status = msgspec.json.decode(answer, type=_TokenReview).status
        return status.user if status.authenticated else None

    async def _ask(self, user: User, wish: Wish) -> _AccessStatus:
        attributes = {
            "group": GROUP,
            "resource": wish.resource,
            "subresource": wish.subresource,
            "verb": "get",
            "namespace": wish.namespace,
            "name": wish.name,
        }
        spec = {
            "user": user.username,
            "uid": user.uid,
            "groups": user.groups,
            "extra": user.extra,
            "resourceAttributes": attributes,
        }
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        answer = await self._api.request("POST", _ACCESS_REVIEWS, about="a review of access", body=body)
        with translated("the review of access"):
            return msgspec.json.decode(answer, type=_AccessReview).status


class _Kept(Generic[T]):
    """Answers by question, for a few seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock: Final = clock
        self._found: Final[OrderedDict[Hashable, tuple[float, T]]] = OrderedDict()

    async def get(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        known = self._found.get(key)
        if known is not None and self._clock() < known[0]:
            return known[1]
        answer = await ask()
        self._found.pop(key, None)
        self._found[key] = self._clock() + KEPT_SECONDS, answer
        if len(self._found) > _KEPT:
            self._found.popitem(last=False)
        return answer
