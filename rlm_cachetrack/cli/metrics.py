"""``metrics``: today's calls in the text format of Prometheus."""

from __future__ import annotations

import sys

from .arguments import DbUrl, open_client


def metrics(db_url: DbUrl = None) -> None:
    """Print metrics of today's calls (UTC) in the text format of Prometheus."""
    from rlm_cachetrack.analytics.metrics import prometheus_text

    with open_client(db_url) as client:
        sys.stdout.write(prometheus_text(client.reader()))
