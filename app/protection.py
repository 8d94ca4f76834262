"""What stands between the console and a hostile web: headers, cookies, proxies, cross-site requests, log-in floods."""

import functools
from collections.abc import Callable
from typing import Any, Final

from flask import Flask, Response, abort, request
from flask_wtf.csrf import CSRFProtect
from secure import (
    ContentSecurityPolicy,
    CrossOriginOpenerPolicy,
    CrossOriginResourcePolicy,
    PermissionsPolicy,
    ReferrerPolicy,
    Secure,
    StrictTransportSecurity,
    XContentTypeOptions,
    XFrameOptions,
)
from werkzeug.middleware.proxy_fix import ProxyFix

from app.rate_limit import MovingWindow
from plumbline.settings import Settings

OWN_POLICY: Final = "X-Plumbline-Own-Policy"
"""A view puts a stricter policy of its own under this name; it never leaves the console under it."""
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
YEAR_SECONDS: Final = 31_536_000
BODY_MAX_BYTES: Final = 64 * 1024

ADDRESS_FAILURES: Final = ((10, 60.0), (60, 3600.0))
ACCOUNT_FAILURES: Final = (10, 900.0)
"""How many failed log-ins are answered within how many seconds, by address and by log-in name.

Successful ones are not counted.
"""


def protect(app: Flask, settings: Settings) -> None:
    """Puts every protection in front of an application; views are added afterwards."""
    secure_cookies(app, settings)
    CSRFProtect(app)
    app.config["MAX_CONTENT_LENGTH"] = BODY_MAX_BYTES
    if settings.trusted_proxies:
        count = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=count)  # type: ignore[method-assign]
    app.before_request(refuse_cross_site)
    headers = security_headers(settings.https_only)

    def finish(response: Response) -> Response:
        headers.set_headers(response)
        if own := response.headers.pop(OWN_POLICY, None):
            response.headers["Content-Security-Policy"] = own
        # pages show accounts and verdicts: no cache may keep them; files under /static name their content's digest
        if request.endpoint != "static":
            response.headers["Cache-Control"] = "no-store"
        return response

    app.after_request(finish)


def secure_cookies(app: Flask, settings: Settings) -> None:
    """Cookies that scripts cannot read and other sites cannot send; bound to this very host over HTTPS."""
    prefix = "__Host-" if settings.https_only else ""
    app.config.update(
        SESSION_COOKIE_NAME=f"{prefix}plumbline",
        SESSION_COOKIE_SECURE=settings.https_only,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/",
        PREFERRED_URL_SCHEME="https" if settings.https_only else "http",
        WTF_CSRF_SSL_STRICT=settings.https_only,
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session: a form left open over lunch still works
    )


def security_headers(https_only: bool) -> Secure:
    """The headers of every response; the policy allows nothing but this host's own files."""
    policy = (
        ContentSecurityPolicy()
        .default_src("'self'")
        .object_src("'none'")
        .base_uri("'none'")
        .frame_ancestors("'none'")
        .form_action("'self'")
    )
    return Secure(
        csp=policy,
        hsts=StrictTransportSecurity().max_age(YEAR_SECONDS).include_subdomains() if https_only else None,
        xfo=XFrameOptions().deny(),
        xcto=XContentTypeOptions().nosniff(),
        referrer=ReferrerPolicy().same_origin(),
        permissions=PermissionsPolicy().geolocation().microphone().camera(),
        coop=CrossOriginOpenerPolicy().same_origin(),
        corp=CrossOriginResourcePolicy().same_origin(),
    )


def refuse_cross_site() -> None:
    """403 for a change of state that a browser says another site asked for (beside the CSRF token)."""
    if request.method in SAFE_METHODS:
        return
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        abort(403)


def limit_log_in(app: Flask) -> None:
    """Counts failed log-ins by address and by log-in name in this process's memory; beyond the limit: 429."""
    for endpoint in ("security.login", "security.verify"):
        app.view_functions[endpoint] = _limited(app, app.view_functions[endpoint])


def _limited(app: Flask, view: Callable[..., Any]) -> Callable[..., Any]:
    by_address = [MovingWindow(*each) for each in ADDRESS_FAILURES]
    by_name = MovingWindow(*ACCOUNT_FAILURES)

    @functools.wraps(view)
    def limited(**arguments: Any) -> Response:
        if request.method != "POST":
            return app.make_response(view(**arguments))
        address = request.remote_addr or "127.0.0.1"
        name = request.form.get("email", "").strip().casefold()[:255] or address
        counted = [*((window, address) for window in by_address), (by_name, name)]
        if any(window.full(key) for window, key in counted):
            abort(429)
        response = app.make_response(view(**arguments))
        if not 300 <= response.status_code < 400:
            for window, key in counted:
                window.count(key)
        return response

    return limited
