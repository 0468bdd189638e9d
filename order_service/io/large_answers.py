"""Bound how many threads send large answers.

A thread that sends is held until the kernel has taken the last byte, at the pace at which the client reads. So at most
a quarter of the threads send what is larger than a socket takes at once. A request that comes while all of these are
busy gets a 503 immediately, and orders go on.
"""

import threading

from flask import Response, request

from order_service.io.problems import Problem, ProblemType, respond

AT_ONCE_BYTES_MAX = 32 * 1024
"""What a socket takes at once, or nearly so, if nothing is left in it."""


class LargeAnswers:
    """Of one process. `threads`: how many the server has."""

    def __init__(self, *, threads: int) -> None:
        self._senders = threading.BoundedSemaphore(max(threads // 4, 1))

    def bound(self, response: Response) -> Response:
        """Return the response, or a 503 if it is large and too many of that kind are being sent."""
        if (response.calculate_content_length() or 0) <= AT_ONCE_BYTES_MAX or request.method == "HEAD":
            return response
        if not self._senders.acquire(blocking=False):
            return respond(Problem(ProblemType.UNAVAILABLE, "Too many large answers at the moment; try again soon."))
        response.call_on_close(self._senders.release)
        return response
