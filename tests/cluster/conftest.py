"""What every Ray process of these tests has in its environment, before Ray is imported: a token of their own, no
reports."""

from __future__ import annotations

import os
import secrets

os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
